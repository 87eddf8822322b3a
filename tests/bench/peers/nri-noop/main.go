// Command nri-noop is an NRI plugin that asks for the events that Armistice's enforcer asks for, and does nothing.
package main

import (
	"context"
	"log"

	"github.com/containerd/nri/pkg/api"
	"github.com/containerd/nri/pkg/stub"
)

type noop struct{}

func (noop) Synchronize(context.Context, []*api.PodSandbox, []*api.Container) ([]*api.ContainerUpdate, error) {
	return nil, nil
}

func (noop) RunPodSandbox(context.Context, *api.PodSandbox) error { return nil }

func (noop) StopPodSandbox(context.Context, *api.PodSandbox) error { return nil }

func (noop) RemovePodSandbox(context.Context, *api.PodSandbox) error { return nil }

func (noop) CreateContainer(
	context.Context, *api.PodSandbox, *api.Container,
) (*api.ContainerAdjustment, []*api.ContainerUpdate, error) {
	return nil, nil, nil
}

func (noop) StartContainer(context.Context, *api.PodSandbox, *api.Container) error { return nil }

func (noop) UpdateContainer(
	context.Context, *api.PodSandbox, *api.Container, *api.LinuxResources,
) ([]*api.ContainerUpdate, error) {
	return nil, nil
}

func (noop) StopContainer(context.Context, *api.PodSandbox, *api.Container) ([]*api.ContainerUpdate, error) {
	return nil, nil
}

func (noop) RemoveContainer(context.Context, *api.PodSandbox, *api.Container) error { return nil }

func (noop) ValidateContainerAdjustment(context.Context, *api.ValidateContainerAdjustmentRequest) error {
	return nil
}

func main() {
	plugin, err := stub.New(noop{}, stub.WithPluginName("noop"), stub.WithPluginIdx("90"))
	if err != nil {
		log.Fatal(err)
	}
	if err := plugin.Run(context.Background()); err != nil {
		log.Fatal(err)
	}
}
