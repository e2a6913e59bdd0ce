// Command containerd is the daemon alone, without upstream's subcommands.
//
// Upstream's command package is not used: its `oci-hook` subcommand executes templates, and text/template looks
// methods up by name, which keeps the linker from dropping any exported method of the whole program.
package main

import "os"

func main() {
	os.Exit(run(os.Args[1:]))
}
