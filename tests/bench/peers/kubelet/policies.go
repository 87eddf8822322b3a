package main

import (
	"context"

	v1 "k8s.io/api/core/v1"
	"k8s.io/klog/v2"
	"k8s.io/kubernetes/pkg/kubelet/cm/cpumanager"
	cpustate "k8s.io/kubernetes/pkg/kubelet/cm/cpumanager/state"
	"k8s.io/kubernetes/pkg/kubelet/cm/cpumanager/topology"
	"k8s.io/kubernetes/pkg/kubelet/cm/memorymanager"
	memorystate "k8s.io/kubernetes/pkg/kubelet/cm/memorymanager/state"
	"k8s.io/kubernetes/pkg/kubelet/cm/topologymanager"
	"k8s.io/kubernetes/pkg/kubelet/lifecycle"
)

type hints = map[string][]topologymanager.TopologyHint

// startPolicies starts the two policies on state in memory, without the managers around them: no checkpoints are
// written and no stale state is looked for. It is the least that a kubelet can take for an admission.
func (m *managers) startPolicies(s *Setup) error {
	discovered, err := topology.Discover(silent, &s.Machine)
	if err != nil {
		return err
	}
	cpu, err := cpumanager.NewStaticPolicy(silent, discovered, m.reserved.Size(), m.reserved, m.topology, s.CPUOptions)
	if err != nil {
		return err
	}
	kept := map[int]map[v1.ResourceName]uint64{}
	for node, bytes := range s.ReservedMemory {
		kept[node] = map[v1.ResourceName]uint64{v1.ResourceMemory: uint64(bytes)}
	}
	memory, err := memorymanager.NewPolicyStatic(silent, &s.Machine, kept, m.topology)
	if err != nil {
		return err
	}
	cpus, memories := cpustate.NewMemoryState(silent), memorystate.NewMemoryState(silent)
	if err := cpu.Start(silent, cpus); err != nil {
		return err
	}
	if err := memory.Start(silent, memories); err != nil {
		return err
	}
	m.cpu, m.memory = cpuPolicy{cpu, cpus}, memoryPolicy{memory, memories}
	m.forget = func(pod *v1.Pod) {
		for _, container := range containers(pod) {
			_ = cpu.RemoveContainer(silent, cpus, string(pod.UID), container.Name) // returns no error, ever
			memory.RemoveContainer(silent, memories, string(pod.UID), container.Name)
		}
	}
	return nil
}

func containers(pod *v1.Pod) []v1.Container {
	return append(append([]v1.Container{}, pod.Spec.InitContainers...), pod.Spec.Containers...)
}

// cpuPolicy hands the topology manager's questions to the policy, as the CPU manager does.
type cpuPolicy struct {
	policy cpumanager.Policy
	state  cpustate.State
}

func (c cpuPolicy) State() cpustate.Reader { return c.state }

func (c cpuPolicy) GetTopologyHints(logger klog.Logger, pod *v1.Pod, container *v1.Container, operation lifecycle.Operation) hints {
	return c.policy.GetTopologyHints(logger, c.state, pod, container, operation)
}

func (c cpuPolicy) GetPodTopologyHints(logger klog.Logger, pod *v1.Pod, operation lifecycle.Operation) hints {
	return c.policy.GetPodTopologyHints(logger, c.state, pod, operation)
}

func (c cpuPolicy) AllocatePod(logger klog.Logger, pod *v1.Pod, operation lifecycle.Operation) error {
	return c.policy.AllocatePod(logger, c.state, pod, operation)
}

func (c cpuPolicy) Allocate(ctx context.Context, pod *v1.Pod, container *v1.Container, operation lifecycle.Operation) error {
	return c.policy.Allocate(klog.FromContext(ctx), c.state, pod, container, operation)
}

// memoryPolicy hands the topology manager's questions to the policy, as the memory manager does.
type memoryPolicy struct {
	policy memorymanager.Policy
	state  memorystate.State
}

func (m memoryPolicy) State() memorystate.Reader { return m.state }

func (m memoryPolicy) GetTopologyHints(logger klog.Logger, pod *v1.Pod, container *v1.Container, operation lifecycle.Operation) hints {
	return m.policy.GetTopologyHints(logger, m.state, pod, container, operation)
}

func (m memoryPolicy) GetPodTopologyHints(logger klog.Logger, pod *v1.Pod, operation lifecycle.Operation) hints {
	return m.policy.GetPodTopologyHints(logger, m.state, pod, operation)
}

func (m memoryPolicy) AllocatePod(logger klog.Logger, pod *v1.Pod, operation lifecycle.Operation) error {
	return m.policy.AllocatePod(logger, m.state, pod, operation)
}

func (m memoryPolicy) Allocate(ctx context.Context, pod *v1.Pod, container *v1.Container, operation lifecycle.Operation) error {
	return m.policy.Allocate(ctx, m.state, pod, container, operation)
}
