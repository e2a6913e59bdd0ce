// Command admission prints what kubelet's admission says of each pod of a table, a line each: case, verdict, reason, message.
// It is built of upstream's source and of the patched one; both must print the same.
package main

import (
	"context"
	"fmt"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/kubernetes/pkg/kubelet/lifecycle"
	schedulerframework "k8s.io/kubernetes/pkg/scheduler/framework"
)

// asIs takes each refusal as final: nothing is preempted.
type asIs struct{}

func (asIs) HandleAdmissionFailure(_ context.Context, _ *v1.Pod, reasons []lifecycle.PredicateFailureReason, _ lifecycle.Operation) ([]lifecycle.PredicateFailureReason, error) {
	return reasons, nil
}

type amounts = map[v1.ResourceName]string

func list(of amounts) v1.ResourceList {
	out := v1.ResourceList{}
	for name, amount := range of {
		out[name] = resource.MustParse(amount)
	}
	return out
}

func asks(of amounts) v1.ResourceRequirements { return v1.ResourceRequirements{Requests: list(of)} }

func pod(spec v1.PodSpec) *v1.Pod {
	if len(spec.Containers) == 0 {
		spec.Containers = []v1.Container{{Name: "main"}}
	}
	return &v1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "p", Namespace: "n", UID: "1"}, Spec: spec}
}

func container(of amounts) v1.PodSpec {
	return v1.PodSpec{Containers: []v1.Container{{Name: "main", Resources: asks(of)}}}
}

func port(number int32, protocol v1.Protocol, address string) v1.PodSpec {
	ports := []v1.ContainerPort{{HostPort: number, ContainerPort: number, Protocol: protocol, HostIP: address}}
	return v1.PodSpec{Containers: []v1.Container{{Name: "main", Ports: ports}}}
}

func affinity(key string, operator v1.NodeSelectorOperator, values ...string) v1.PodSpec {
	term := v1.NodeSelectorTerm{MatchExpressions: []v1.NodeSelectorRequirement{{Key: key, Operator: operator, Values: values}}}
	required := &v1.NodeSelector{NodeSelectorTerms: []v1.NodeSelectorTerm{term}}
	return v1.PodSpec{Affinity: &v1.Affinity{NodeAffinity: &v1.NodeAffinity{RequiredDuringSchedulingIgnoredDuringExecution: required}}}
}

func sidecar(of amounts) v1.PodSpec {
	always := v1.ContainerRestartPolicyAlways
	spec := container(amounts{"cpu": "1"})
	spec.InitContainers = []v1.Container{{Name: "side", RestartPolicy: &always, Resources: asks(of)}}
	return spec
}

func initContainer(of amounts) v1.PodSpec {
	spec := container(amounts{"cpu": "1"})
	spec.InitContainers = []v1.Container{{Name: "first", Resources: asks(of)}}
	return spec
}

func podLevel(of amounts) v1.PodSpec {
	needs := asks(of)
	spec := container(amounts{"cpu": "100m"})
	spec.Resources = &needs
	return spec
}

func static(p *v1.Pod) *v1.Pod {
	p.Annotations = map[string]string{"kubernetes.io/config.source": "file"}
	return p
}

func main() {
	capacity := list(amounts{"cpu": "2", "memory": "1Gi", "ephemeral-storage": "1Gi", "pods": "3", "example.com/gpu": "1"})
	node := &v1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: "n1", Labels: map[string]string{"zone": "a", "size": "7", "kubernetes.io/os": "linux"}},
		Status:     v1.NodeStatus{Capacity: capacity, Allocatable: capacity},
	}
	tainted := node.DeepCopy()
	tainted.Spec.Taints = []v1.Taint{{Key: "k", Value: "v", Effect: v1.TaintEffectNoExecute}, {Key: "other", Effect: v1.TaintEffectNoSchedule}}

	there := pod(port(80, v1.ProtocolTCP, ""))
	there.UID = "0"
	there.Spec.Containers[0].Resources = asks(amounts{"cpu": "500m", "memory": "512Mi", "ephemeral-storage": "512Mi"})

	windows := &v1.PodOS{Name: v1.Windows}
	tolerates := v1.PodSpec{Tolerations: []v1.Toleration{{Key: "k", Operator: v1.TolerationOpExists}}}
	both := affinity("zone", v1.NodeSelectorOpIn, "b")
	both.NodeName = "n2"
	both.Containers = []v1.Container{{Name: "main", Resources: asks(amounts{"cpu": "9", "memory": "9Gi"})}}
	labelled := pod(v1.PodSpec{})
	labelled.Labels = map[string]string{"kubernetes.io/os": "windows"}

	for _, c := range []struct {
		name   string
		node   *v1.Node
		pod    *v1.Pod
		others []*v1.Pod
	}{
		{"nothing asked", node, pod(v1.PodSpec{}), nil},
		{"cpu fits to the last", node, pod(container(amounts{"cpu": "1500m"})), []*v1.Pod{there}},
		{"cpu lacks", node, pod(container(amounts{"cpu": "1501m"})), []*v1.Pod{there}},
		{"memory lacks", node, pod(container(amounts{"memory": "513Mi"})), []*v1.Pod{there}},
		{"ephemeral storage lacks", node, pod(container(amounts{"ephemeral-storage": "513Mi"})), []*v1.Pod{there}},
		{"extended resource fits", node, pod(container(amounts{"example.com/gpu": "1"})), nil},
		{"extended resource lacks", node, pod(container(amounts{"example.com/gpu": "2"})), nil},
		{"extended resource that no node knows", node, pod(container(amounts{"example.com/other": "2"})), nil},
		{"too many pods", node, pod(v1.PodSpec{}), []*v1.Pod{there, pod(v1.PodSpec{}), pod(v1.PodSpec{})}},
		{"several lack", node, pod(container(amounts{"cpu": "9", "memory": "9Gi"})), nil},
		{"affinity matches", node, pod(affinity("zone", v1.NodeSelectorOpIn, "a", "b")), nil},
		{"affinity does not match", node, pod(affinity("zone", v1.NodeSelectorOpIn, "b")), nil},
		{"affinity by number", node, pod(affinity("size", v1.NodeSelectorOpGt, "7")), nil},
		{"affinity not a number", node, pod(affinity("zone", v1.NodeSelectorOpGt, "x")), nil},
		{"selector matches", node, pod(v1.PodSpec{NodeSelector: map[string]string{"zone": "a"}}), nil},
		{"selector does not match", node, pod(v1.PodSpec{NodeSelector: map[string]string{"zone": "b"}}), nil},
		{"its node", node, pod(v1.PodSpec{NodeName: "n1"}), nil},
		{"another node", node, pod(v1.PodSpec{NodeName: "n2"}), nil},
		{"host port taken", node, pod(port(80, v1.ProtocolTCP, "")), []*v1.Pod{there}},
		{"host port taken at one address", node, pod(port(80, v1.ProtocolTCP, "10.0.0.1")), []*v1.Pod{there}},
		{"host port of the other protocol", node, pod(port(80, v1.ProtocolUDP, "")), []*v1.Pod{there}},
		{"host port free", node, pod(port(81, v1.ProtocolTCP, "")), []*v1.Pod{there}},
		{"taint", tainted, pod(v1.PodSpec{}), nil},
		{"taint tolerated", tainted, pod(tolerates), nil},
		{"taint and a static pod", tainted, static(pod(v1.PodSpec{})), nil},
		{"another system", node, pod(v1.PodSpec{OS: windows}), nil},
		{"another system by label", node, labelled, nil},
		{"sidecar fits", node, pod(sidecar(amounts{"cpu": "1"})), nil},
		{"sidecar lacks", node, pod(sidecar(amounts{"cpu": "1001m"})), nil},
		{"init container fits", node, pod(initContainer(amounts{"cpu": "2"})), nil},
		{"init container lacks", node, pod(initContainer(amounts{"cpu": "2001m"})), nil},
		{"overhead lacks", node, pod(v1.PodSpec{Overhead: list(amounts{"cpu": "3"})}), nil},
		{"pod-level resources fit", node, pod(podLevel(amounts{"cpu": "2"})), nil},
		{"pod-level resources lack", node, pod(podLevel(amounts{"cpu": "2001m"})), nil},
		{"all at once", tainted, pod(both), []*v1.Pod{there}},
	} {
		get := func(context.Context, bool) (*v1.Node, error) { return c.node, nil }
		update := func(*schedulerframework.NodeInfo, *lifecycle.PodAdmitAttributes) error { return nil }
		handler := lifecycle.NewPredicateAdmitHandler(get, asIs{}, update)
		result := handler.Admit(context.Background(), &lifecycle.PodAdmitAttributes{Pod: c.pod, OtherPods: c.others, Operation: lifecycle.AddOperation})
		fmt.Printf("%s: %v %s: %s\n", c.name, result.Admit, result.Reason, result.Message)
	}
}
