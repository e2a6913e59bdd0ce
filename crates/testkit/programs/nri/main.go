// A plugin of containerd for the tests, which connects as those of device vendors do: it writes the name of each container that starts,
// and gives containers of pods with the annotation `lab/device` the CDI device that it names.
package main

import (
	"context"
	"fmt"
	"os"

	"github.com/containerd/nri/pkg/api"
	"github.com/containerd/nri/pkg/stub"
)

type plugin struct{}

func (plugin) CreateContainer(_ context.Context, pod *api.PodSandbox, _ *api.Container) (*api.ContainerAdjustment, []*api.ContainerUpdate, error) {
	device := pod.GetAnnotations()["lab/device"]
	if device == "" {
		return nil, nil, nil
	}
	adjustment := &api.ContainerAdjustment{}
	adjustment.AddCDIDevice(&api.CDIDevice{Name: device})
	return adjustment, nil, nil
}

func (plugin) StartContainer(_ context.Context, pod *api.PodSandbox, container *api.Container) error {
	fmt.Println(pod.GetName(), container.GetName())
	return nil
}

func (plugin) Synchronize(_ context.Context, _ []*api.PodSandbox, _ []*api.Container) ([]*api.ContainerUpdate, error) {
	fmt.Println("connected")
	return nil, nil
}

func main() {
	connection, err := stub.New(plugin{}, stub.WithPluginName("lab"), stub.WithPluginIdx("10"))
	if err == nil {
		err = connection.Run(context.Background())
	}
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
}
