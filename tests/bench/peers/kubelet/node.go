package main

import (
	"context"

	cadvisorapi "github.com/google/cadvisor/lib/model"
	"golang.org/x/sys/unix"
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	v1helper "k8s.io/kubernetes/pkg/apis/core/v1/helper"
	v1qos "k8s.io/kubernetes/pkg/apis/core/v1/helper/qos"
	"k8s.io/kubernetes/pkg/kubelet/cadvisor"
	"k8s.io/kubernetes/pkg/kubelet/lifecycle"
	schedulerframework "k8s.io/kubernetes/pkg/scheduler/framework"
	"k8s.io/utils/cpuset"
)

// Setup is an empty node and its kubelet's configuration.
type Setup struct {
	// Machine is what cAdvisor would tell the kubelet.
	Machine cadvisorapi.MachineInfo `json:"machine"`
	// ReservedCPUs is the kubelet's reservedSystemCPUs, in list format.
	ReservedCPUs string `json:"reservedCPUs"`
	// ReservedMemory is the kubelet's reservedMemory: bytes by NUMA node.
	ReservedMemory map[int]int64 `json:"reservedMemory"`
	// CPUOptions is the kubelet's cpuManagerPolicyOptions.
	CPUOptions map[string]string `json:"cpuOptions"`
	// TopologyOptions is the kubelet's topologyManagerPolicyOptions.
	TopologyOptions map[string]string `json:"topologyOptions"`
	// StateFolder is where the managers keep their checkpoints, as in a kubelet. Empty: the policies alone, without
	// managers around them, on state in memory.
	StateFolder string `json:"stateFolder"`
}

// Fate is what became of one pod.
type Fate struct {
	Admitted bool `json:"admitted"`
	// Reason is the kubelet's word for a refusal.
	Reason  string `json:"reason"`
	Message string `json:"message"`
	// CPUs is what the pod owns, in list format; empty for a pod on the shared pool.
	CPUs string `json:"cpus"`
	// Containers is what the CPU manager gave to each container of such a pod, its pod's shared pool included.
	Containers map[string]string `json:"containers"`
	// Nodes are the NUMA nodes that the memory manager bound the pod to.
	Nodes []int `json:"nodes"`
	// Nanoseconds of processor time that the topology manager's Admit took: hints, their merger and the allocation.
	Nanoseconds int64 `json:"nanoseconds"`
}

// node is one kubelet.
type node struct {
	managers *managers
	fits     lifecycle.PodAdmitHandler
	pods     []*v1.Pod
}

func start(setup *Setup) (*node, error) {
	reserved, err := cpuset.Parse(setup.ReservedCPUs)
	if err != nil {
		return nil, err
	}
	managers, err := startManagers(setup, reserved)
	if err != nil {
		return nil, err
	}
	return &node{managers: managers, fits: fitsNode(setup.allocatable(reserved))}, nil
}

func (n *node) admit(pod *v1.Pod) Fate {
	// The API server writes the QoS class down when it stores a pod.
	pod.Status.QOSClass = v1qos.ComputePodQOS(pod)
	attributes := &lifecycle.PodAdmitAttributes{Pod: pod, OtherPods: n.pods, Operation: lifecycle.AddOperation}
	// First what the scheduler asks before a kubelet sees the pod; the kubelet asks it once more, after its managers.
	if result := n.fits.Admit(quiet(), attributes); !result.Admit {
		return Fate{Reason: result.Reason, Message: result.Message}
	}
	n.managers.active.set(append(n.pods, pod))
	began := processorTime()
	result := n.managers.topology.Admit(quiet(), attributes)
	took := processorTime() - began
	if !result.Admit {
		n.managers.active.set(n.pods)
		n.managers.forget(pod)
		return Fate{Reason: result.Reason, Message: result.Message, Nanoseconds: took}
	}
	n.pods = append(n.pods, pod)
	fate := n.managers.fate(pod)
	fate.Nanoseconds = took
	return fate
}

// processorTime is this thread's, in nanoseconds: what else runs on the machine counts less that way. The garbage
// collector's own threads are not counted.
func processorTime() int64 {
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &now); err != nil {
		panic(err) // Linux has that clock
	}
	return now.Nano()
}

// allocatable is the node's, as the kubelet reckons it: the capacity less the reservation.
func (s *Setup) allocatable(reserved cpuset.CPUSet) v1.ResourceList {
	found := cadvisor.CapacityFromMachineInfo(&s.Machine)
	found[v1.ResourcePods] = *resource.NewQuantity(10_000, resource.DecimalSI) // their number is not what is asked here
	cpu, memory := found[v1.ResourceCPU], found[v1.ResourceMemory]
	cpu.Sub(*resource.NewQuantity(int64(reserved.Size()), resource.DecimalSI))
	for _, bytes := range s.ReservedMemory {
		memory.Sub(*resource.NewQuantity(bytes, resource.BinarySI))
	}
	for name, pages := range found {
		if v1helper.IsHugePageResourceName(name) {
			memory.Sub(pages)
		}
	}
	found[v1.ResourceCPU], found[v1.ResourceMemory] = cpu, memory
	return found
}

// fitsNode is the kubelet's own run of the scheduler's filters, of which only the amounts can fail here.
func fitsNode(allocatable v1.ResourceList) lifecycle.PodAdmitHandler {
	here := &v1.Node{Status: v1.NodeStatus{Capacity: allocatable, Allocatable: allocatable}}
	here.Labels = map[string]string{v1.LabelOSStable: "linux"}
	get := func(context.Context, bool) (*v1.Node, error) { return here, nil }
	noDevices := func(*schedulerframework.NodeInfo, *lifecycle.PodAdmitAttributes) error { return nil }
	return lifecycle.NewPredicateAdmitHandler(get, noPreemption{}, noDevices)
}

// noPreemption leaves a refusal as it is: only critical pods make room for themselves.
type noPreemption struct{}

func (noPreemption) HandleAdmissionFailure(_ context.Context, _ *v1.Pod, reasons []lifecycle.PredicateFailureReason, _ lifecycle.Operation) ([]lifecycle.PredicateFailureReason, error) {
	return reasons, nil
}
