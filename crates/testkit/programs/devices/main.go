// Stand-ins for what vendors of devices run on a node: `devices plugin` is a device plugin of kubelet, `devices driver` a driver of
// dynamic resource allocation. The device of both is the node's /dev/zero, as /dev/lab.
package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	deviceplugin "k8s.io/kubelet/pkg/apis/deviceplugin/v1beta1"
	dra "k8s.io/kubelet/pkg/apis/dra/v1"
	registration "k8s.io/kubelet/pkg/apis/pluginregistration/v1"
)

const (
	// Of the driver, and of the resource "NAME/device" that the plugin has two of.
	name     = "lab.example"
	registry = "/var/lib/kubelet/plugins_registry"
	plugins  = "/var/lib/kubelet/plugins"
	cdi      = "/var/run/cdi"
)

func main() {
	run := map[string]func() error{"plugin": runPlugin, "driver": runDriver}[strings.Join(os.Args[1:], " ")]
	if run == nil {
		fmt.Println("usage: devices plugin|driver")
		os.Exit(2)
	}
	if err := run(); err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
}

// serve answers at a Unix socket that an earlier run may have left.
func serve(path string, register func(*grpc.Server)) (*grpc.Server, net.Listener, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, nil, err
	}
	if err := os.Remove(path); err != nil && !os.IsNotExist(err) {
		return nil, nil, err
	}
	listener, err := net.Listen("unix", path)
	if err != nil {
		return nil, nil, err
	}
	server := grpc.NewServer()
	register(server)
	return server, listener, nil
}

type plugin struct {
	deviceplugin.UnimplementedDevicePluginServer
}

func runPlugin() error {
	socket := deviceplugin.DevicePluginPath + "lab.sock"
	server, listener, err := serve(socket, func(s *grpc.Server) { deviceplugin.RegisterDevicePluginServer(s, plugin{}) })
	if err != nil {
		return err
	}
	ended := make(chan error)
	go func() { ended <- server.Serve(listener) }()
	kubelet, err := grpc.NewClient("unix://"+deviceplugin.KubeletSocket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	request := &deviceplugin.RegisterRequest{
		Version: deviceplugin.Version, Endpoint: filepath.Base(socket), ResourceName: name + "/device",
	}
	if _, err := deviceplugin.NewRegistrationClient(kubelet).Register(context.Background(), request); err != nil {
		return err
	}
	fmt.Println("registered")
	return <-ended
}

func (plugin) GetDevicePluginOptions(context.Context, *deviceplugin.Empty) (*deviceplugin.DevicePluginOptions, error) {
	return &deviceplugin.DevicePluginOptions{}, nil
}

func (plugin) ListAndWatch(_ *deviceplugin.Empty, stream grpc.ServerStreamingServer[deviceplugin.ListAndWatchResponse]) error {
	var devices []*deviceplugin.Device
	for _, id := range []string{"one", "two"} {
		devices = append(devices, &deviceplugin.Device{ID: id, Health: deviceplugin.Healthy})
	}
	if err := stream.Send(&deviceplugin.ListAndWatchResponse{Devices: devices}); err != nil {
		return err
	}
	fmt.Println("listed")
	<-stream.Context().Done()
	return nil
}

func (plugin) Allocate(_ context.Context, request *deviceplugin.AllocateRequest) (*deviceplugin.AllocateResponse, error) {
	answer := &deviceplugin.AllocateResponse{}
	for _, container := range request.GetContainerRequests() {
		slices.Sort(container.DevicesIds)
		ids := strings.Join(container.DevicesIds, ",")
		fmt.Println("allocated", ids)
		answer.ContainerResponses = append(answer.ContainerResponses, &deviceplugin.ContainerAllocateResponse{
			Envs:    map[string]string{"LAB_DEVICE": ids},
			Devices: []*deviceplugin.DeviceSpec{{ContainerPath: "/dev/lab", HostPath: "/dev/zero", Permissions: "rw"}},
		})
	}
	return answer, nil
}

type driver struct {
	dra.UnimplementedDRAPluginServer
	registration.UnimplementedRegistrationServer
}

func runDriver() error {
	ended := make(chan error)
	sockets := map[string]func(*grpc.Server){
		endpoint(): func(s *grpc.Server) { dra.RegisterDRAPluginServer(s, driver{}) },
		filepath.Join(registry, name+"-reg.sock"): func(s *grpc.Server) { registration.RegisterRegistrationServer(s, driver{}) },
	}
	for path, register := range sockets {
		server, listener, err := serve(path, register)
		if err != nil {
			return err
		}
		go func() { ended <- server.Serve(listener) }()
	}
	return <-ended
}

func endpoint() string {
	return filepath.Join(plugins, name, "dra.sock")
}

func (driver) GetInfo(context.Context, *registration.InfoRequest) (*registration.PluginInfo, error) {
	return &registration.PluginInfo{
		Type: registration.DRAPlugin, Name: name, Endpoint: endpoint(), SupportedVersions: []string{dra.DRAPluginService},
	}, nil
}

func (driver) NotifyRegistrationStatus(_ context.Context, status *registration.RegistrationStatus) (*registration.RegistrationStatusResponse, error) {
	fmt.Println("registered", status.GetPluginRegistered(), status.GetError())
	return &registration.RegistrationStatusResponse{}, nil
}

// NodePrepareResources describes the device of each claim to the container runtime.
func (driver) NodePrepareResources(_ context.Context, request *dra.NodePrepareResourcesRequest) (*dra.NodePrepareResourcesResponse, error) {
	answer := &dra.NodePrepareResourcesResponse{Claims: map[string]*dra.NodePrepareResourceResponse{}}
	for _, claim := range request.GetClaims() {
		prepared := &dra.NodePrepareResourceResponse{}
		if err := describe(claim); err != nil {
			prepared.Error = err.Error()
		} else {
			device := &dra.Device{PoolName: "lab", DeviceName: "one", CdiDeviceIds: []string{name + "/claim=" + claim.GetUid()}}
			prepared.Devices = []*dra.Device{device}
		}
		fmt.Println("prepared", claim.GetName(), prepared.GetError())
		answer.Claims[claim.GetUid()] = prepared
	}
	return answer, nil
}

// describe writes a specification of CDI 0.6.0.
func describe(claim *dra.Claim) error {
	text := fmt.Sprintf(`{"cdiVersion":"0.6.0","kind":"%s/claim","devices":[{"name":"%s","containerEdits":{"env":["LAB_CLAIM=%s"],`+
		`"deviceNodes":[{"path":"/dev/lab","hostPath":"/dev/zero"}]}}]}`, name, claim.GetUid(), claim.GetName())
	if err := os.MkdirAll(cdi, 0o755); err != nil {
		return err
	}
	return os.WriteFile(specification(claim), []byte(text), 0o644)
}

func specification(claim *dra.Claim) string {
	return filepath.Join(cdi, name+"-"+claim.GetUid()+".json")
}

func (driver) NodeUnprepareResources(_ context.Context, request *dra.NodeUnprepareResourcesRequest) (*dra.NodeUnprepareResourcesResponse, error) {
	answer := &dra.NodeUnprepareResourcesResponse{Claims: map[string]*dra.NodeUnprepareResourceResponse{}}
	for _, claim := range request.GetClaims() {
		undone := &dra.NodeUnprepareResourceResponse{}
		if err := os.Remove(specification(claim)); err != nil && !os.IsNotExist(err) {
			undone.Error = err.Error()
		}
		fmt.Println("gave back", claim.GetName(), undone.GetError())
		answer.Claims[claim.GetUid()] = undone
	}
	return answer, nil
}
