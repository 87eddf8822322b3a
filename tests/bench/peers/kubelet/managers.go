package main

import (
	"context"
	"sync"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/klog/v2"
	kubeletconfig "k8s.io/kubernetes/pkg/kubelet/apis/config"
	"k8s.io/kubernetes/pkg/kubelet/cm/containermap"
	"k8s.io/kubernetes/pkg/kubelet/cm/cpumanager"
	cpustate "k8s.io/kubernetes/pkg/kubelet/cm/cpumanager/state"
	"k8s.io/kubernetes/pkg/kubelet/cm/memorymanager"
	memorystate "k8s.io/kubernetes/pkg/kubelet/cm/memorymanager/state"
	"k8s.io/kubernetes/pkg/kubelet/cm/topologymanager"
	"k8s.io/kubernetes/pkg/kubelet/config"
	"k8s.io/utils/cpuset"
)

// silent is the logger of everything here: a kubelet's lines about hints would cost more than the hints.
var silent klog.Logger

// provider is a CPU or memory manager, or its policy alone.
type provider[Reader any] interface {
	topologymanager.HintProvider
	State() Reader
}

// managers is the part of a kubelet that pins pods: the topology manager and what it asks for hints.
type managers struct {
	topology topologymanager.Manager
	cpu      provider[cpustate.Reader]
	memory   provider[memorystate.Reader]
	reserved cpuset.CPUSet
	active   *active
	// forget takes a refused pod's share back, as a kubelet does with pods that are not active any more.
	forget func(*v1.Pod)
}

func startManagers(s *Setup, reserved cpuset.CPUSet) (*managers, error) {
	topology, err := topologymanager.NewManager(silent, s.Machine.Topology, topologymanager.PolicySingleNumaNode,
		topologymanager.PodTopologyScope, s.TopologyOptions)
	if err != nil {
		return nil, err
	}
	m := &managers{topology: topology, reserved: reserved, active: &active{}}
	if s.StateFolder == "" {
		err = m.startPolicies(s)
	} else {
		err = m.startWhole(s)
	}
	if err != nil {
		return nil, err
	}
	topology.AddHintProvider(silent, m.cpu)
	topology.AddHintProvider(silent, m.memory)
	return m, nil
}

// startWhole starts what a kubelet starts, checkpoints included.
func (m *managers) startWhole(s *Setup) error {
	reservation, byNode := s.reservation(m.reserved)
	cpu, err := cpumanager.NewManager(silent, string(cpumanager.PolicyStatic), s.CPUOptions, 24*time.Hour, &s.Machine,
		m.reserved, reservation, s.StateFolder, m.topology)
	if err != nil {
		return err
	}
	memory, err := memorymanager.NewManager(silent, string(memorymanager.PolicyTypeStatic), &s.Machine, reservation,
		byNode, s.StateFolder, m.topology)
	if err != nil {
		return err
	}
	ready := config.NewSourcesReady(func(sets.Set[string]) bool { return true })
	if err := cpu.Start(quiet(), m.active.list, ready, noStatus{}, nil, containermap.NewContainerMap()); err != nil {
		return err
	}
	if err := memory.Start(quiet(), m.active.list, ready, noStatus{}, nil, containermap.NewContainerMap()); err != nil {
		return err
	}
	m.cpu, m.memory = cpu, memory
	m.forget = func(*v1.Pod) { // each looks for stale state before it gives hints
		cpu.GetPodTopologyHints(silent, &v1.Pod{}, "")
		memory.GetPodTopologyHints(silent, &v1.Pod{}, "")
	}
	return nil
}

// reservation is what Node Allocatable keeps, and the memory of it by NUMA node.
func (s *Setup) reservation(reserved cpuset.CPUSet) (v1.ResourceList, []kubeletconfig.MemoryReservation) {
	total, byNode := int64(0), []kubeletconfig.MemoryReservation{}
	for node, bytes := range s.ReservedMemory {
		total += bytes
		limits := v1.ResourceList{v1.ResourceMemory: *resource.NewQuantity(bytes, resource.BinarySI)}
		byNode = append(byNode, kubeletconfig.MemoryReservation{NumaNode: int32(node), Limits: limits})
	}
	return v1.ResourceList{
		v1.ResourceCPU:    *resource.NewQuantity(int64(reserved.Size()), resource.DecimalSI),
		v1.ResourceMemory: *resource.NewQuantity(total, resource.BinarySI),
	}, byNode
}

// fate is what an admitted pod has got.
func (m *managers) fate(pod *v1.Pod) Fate {
	uid, fate, nodes := string(pod.UID), Fate{Admitted: true, Containers: map[string]string{}}, sets.New[int]()
	owned, _ := m.cpu.State().GetPodCPUSet(uid)
	for name, cpus := range m.cpu.State().GetCPUAssignments()[uid] {
		fate.Containers[name] = cpus.String()
		owned = owned.Union(cpus)
	}
	for _, blocks := range m.memory.State().GetMemoryAssignments()[uid] {
		for _, block := range blocks {
			nodes.Insert(block.NUMAAffinity...)
		}
	}
	fate.CPUs, fate.Nodes = owned.String(), sets.List(nodes)
	return fate
}

// active is the kubelet's list of active pods, by which its managers know stale state.
type active struct {
	sync.Mutex
	pods []*v1.Pod
}

func (a *active) list() []*v1.Pod {
	a.Lock()
	defer a.Unlock()
	return a.pods
}

func (a *active) set(pods []*v1.Pod) {
	a.Lock()
	defer a.Unlock()
	a.pods = pods
}

// noStatus stands for a kubelet whose containers have not started yet: there is nothing to reconcile.
type noStatus struct{}

func (noStatus) GetPodStatus(types.UID) (v1.PodStatus, bool) { return v1.PodStatus{}, false }

func quiet() context.Context { return klog.NewContext(context.Background(), silent) }
