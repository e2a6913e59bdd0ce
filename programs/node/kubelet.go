package main

import (
	"context"

	"k8s.io/component-base/cli"
	_ "k8s.io/component-base/logs/json/register"
	_ "k8s.io/component-base/metrics/prometheus/clientgo"
	_ "k8s.io/component-base/metrics/prometheus/version"
	"k8s.io/kubernetes/cmd/kubelet/app"
)

// kubelet runs the kubelet as upstream's main does and returns its exit code.
func kubelet() int {
	return cli.Run(app.NewKubeletCommand(context.Background()))
}
