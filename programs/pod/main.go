// Command pod is what containerd starts for each pod, in one binary: the runc v2 shim and the CNI plugins of a worker; what keeps
// containerd's mirrors as the network has them; what starts open-iscsi beside a root over iSCSI; and what joins the node to a cluster.
// It acts as what it is called. It is apart from command node on purpose: a process runs the init functions of every package that it is
// linked with, and one shim stays in memory for each pod.
//
// The CNI plugins are `package main` upstream; the build edits their package clauses and the case of `main`.
package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/containerd/containerd/v2/cmd/containerd-shim-runc-v2/manager"
	_ "github.com/containerd/containerd/v2/cmd/containerd-shim-runc-v2/task/plugin"
	"github.com/containerd/containerd/v2/pkg/shim"
	hostlocal "github.com/containernetworking/plugins/plugins/ipam/host-local"
	"github.com/containernetworking/plugins/plugins/main/bridge"
	"github.com/containernetworking/plugins/plugins/main/loopback"
	"github.com/containernetworking/plugins/plugins/main/ptp"
	"github.com/containernetworking/plugins/plugins/meta/portmap"
)

func main() {
	name := filepath.Base(os.Args[0])
	switch name {
	// The shim starts itself again by os.Executable, which follows symlinks: the binary's own name is the shim too.
	case "containerd-shim-runc-v2", "pod":
		shim.RunShim(context.Background(), manager.NewShimManager("io.containerd.runc.v2"))
	case "bridge":
		bridge.Main()
	case "host-local":
		hostlocal.Main()
	case "loopback":
		loopback.Main()
	case "portmap":
		portmap.Main()
	case "ptp":
		ptp.Main()
	case "registry-mirrors":
		if len(os.Args) != 5 {
			fmt.Fprintln(os.Stderr, "usage: registry-mirrors LEASE FROM TO READY")
			os.Exit(2)
		}
		say("%v", keepMirrors(os.Args[1], os.Args[2], os.Args[3], os.Args[4]))
		os.Exit(1)
	case "iscsid-beside-root":
		if len(os.Args) < 2 {
			fmt.Fprintln(os.Stderr, "usage: iscsid-beside-root ISCSID [ARGUMENT...]")
			os.Exit(2)
		}
		fmt.Fprintln(os.Stderr, "iscsid-beside-root:", iscsidBesideRoot(os.Args[1:]))
		os.Exit(1)
	case "node-join":
		if err := nodeJoin(os.Args[1:]); err != nil {
			fmt.Fprintln(os.Stderr, "node-join:", err)
			os.Exit(1)
		}
	default:
		fmt.Fprintf(os.Stderr, "pod: `%s` is not a program: call it as `containerd-shim-runc-v2` or a CNI plugin\n", name)
		os.Exit(2)
	}
}
