package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"iter"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"syscall"

	"github.com/containerd/containerd/v2/cmd/containerd/server"
	srvconfig "github.com/containerd/containerd/v2/cmd/containerd/server/config"
	"github.com/containerd/containerd/v2/core/mount"
	"github.com/containerd/containerd/v2/defaults"
	"github.com/containerd/containerd/v2/version"
	"github.com/containerd/log"
	"github.com/containerd/plugin"
	"github.com/containerd/plugin/registry"
)

// run runs the daemon until SIGTERM or SIGINT and returns its exit code.
func run(args []string) int {
	flags := flag.NewFlagSet("containerd", flag.ContinueOnError)
	path := flags.String("config", filepath.Join(defaults.DefaultConfigDir, "config.toml"), "configuration `file`")
	level := flags.String("log-level", "", "trace, debug, info, warn, error, fatal or panic")
	showVersion := flags.Bool("version", false, "print the version and exit")
	if err := flags.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return 0
		}
		return 2
	}
	if *showVersion {
		fmt.Println("containerd", version.Package, version.Version, version.Revision)
		return 0
	}
	if flags.NArg() > 0 {
		fmt.Fprintf(os.Stderr, "containerd: `%s` is not known: this build is the daemon only\n", flags.Arg(0))
		return 2
	}
	if err := serve(*path, *level); err != nil {
		fmt.Fprintf(os.Stderr, "containerd: %s\n", err)
		return 1
	}
	return 0
}

// serve starts the server with the configuration at path and blocks until a signal ends it.
func serve(path, level string) error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()

	config, err := loadConfig(ctx, path)
	if err != nil {
		return err
	}
	if level == "" {
		level = config.Debug.Level
	}
	if err := setLog(level, config.Debug.Format); err != nil {
		return err
	}
	if err := server.CreateTopLevelDirectories(config); err != nil {
		return err
	}
	if err := cleanTempMounts(ctx, config.Root); err != nil {
		return err
	}

	log.G(ctx).WithField("version", version.Version).Info("starting containerd")
	s, err := newServer(ctx, config)
	if err != nil || s == nil {
		return err
	}
	defer s.Stop()
	if err := s.Start(ctx); err != nil {
		return err
	}
	// Wait returns as soon as the servers are ready, not when they end.
	s.Wait()
	log.G(ctx).Info("containerd is ready")
	<-ctx.Done()
	return nil
}

// newServer makes the server in the background: opening the database blocks for as long as another containerd holds
// it, and a signal must end that. Returns nil without an error when one did.
func newServer(ctx context.Context, config *srvconfig.Config) (*server.Server, error) {
	type outcome struct {
		server *server.Server
		err    error
	}
	done := make(chan outcome, 1)
	go func() {
		s, err := server.New(ctx, config)
		done <- outcome{s, err}
	}()
	select {
	case o := <-done:
		return o.server, o.err
	case <-ctx.Done():
		return nil, nil
	}
}

// loadConfig reads the configuration over containerd's defaults; older versions of the format are migrated. A missing
// file is an error: in an image it is always meant to be there.
func loadConfig(ctx context.Context, path string) (*srvconfig.Config, error) {
	config := &srvconfig.Config{
		Version: version.ConfigVersion,
		Root:    defaults.DefaultRootDir,
		State:   defaults.DefaultStateDir,
		Plugins: map[string]any{
			"io.containerd.server.v1.grpc": map[string]any{
				"address":               defaults.DefaultAddress,
				"max_recv_message_size": defaults.DefaultMaxRecvMsgSize,
				"max_send_message_size": defaults.DefaultMaxSendMsgSize,
			},
		},
	}
	all := registry.Graph(func(*plugin.Registration) bool { return false })
	plugins := func() iter.Seq[plugin.Registration] { return slices.Values(all) }
	if err := srvconfig.LoadConfigWithPlugins(ctx, path, plugins, config); err != nil {
		return nil, err
	}
	return config, nil
}

func setLog(level, format string) error {
	if level != "" {
		if err := log.SetLevel(level); err != nil {
			return err
		}
	}
	if format == "" {
		format = string(log.TextFormat)
	}
	return log.SetFormat(log.OutputFormat(format))
}

// cleanTempMounts unmounts what a killed daemon left below the root folder.
func cleanTempMounts(ctx context.Context, root string) error {
	if err := mount.SetTempMountLocation(filepath.Join(root, "tmpmounts")); err != nil {
		return fmt.Errorf("creating the folder for temporary mounts: %w", err)
	}
	warnings, err := mount.CleanupTempMounts(0)
	if err != nil {
		log.G(ctx).WithError(err).Error("unmounting temporary mounts")
	}
	for _, w := range warnings {
		log.G(ctx).WithError(w).Warn("unmounting temporary mounts")
	}
	return nil
}
