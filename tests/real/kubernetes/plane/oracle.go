package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/component-helpers/resource"
	"k8s.io/kubectl/pkg/polymorphichelpers"
)

// eachLine answers each JSON document on a line of standard input with one on
// a line of standard output, until the input ends.
func eachLine(answer func(line []byte) (any, error)) {
	reader := bufio.NewReader(os.Stdin)
	for {
		line, err := reader.ReadBytes('\n')
		if err == io.EOF {
			return
		}
		value, err := answer(line)
		if err != nil {
			value = map[string]string{"error": err.Error()}
		}
		text, err := json.Marshal(value)
		if err != nil {
			panic(err)
		}
		fmt.Println(string(text))
	}
}

// podResources is what the scheduler counts for a Pod: its effective requests
// and limits, as the spec has them and as the status has them.
func podResources(line []byte) (any, error) {
	var pod corev1.Pod
	if err := json.Unmarshal(line, &pod); err != nil {
		return nil, err
	}
	spec := resource.PodResourcesOptions{}
	status := resource.PodResourcesOptions{UseStatusResources: true}
	return map[string]corev1.ResourceList{
		"limits":         resource.PodLimits(&pod, spec),
		"requests":       resource.PodRequests(&pod, spec),
		"statusLimits":   resource.PodLimits(&pod, status),
		"statusRequests": resource.PodRequests(&pod, status),
	}, nil
}

// rolloutStatus is what `kubectl rollout status` says of a Deployment, a
// StatefulSet or a DaemonSet, and whether it would end there.
func rolloutStatus(line []byte) (any, error) {
	object := &unstructured.Unstructured{}
	if err := object.UnmarshalJSON(line); err != nil {
		return nil, err
	}
	viewer, err := polymorphichelpers.StatusViewerFor(object.GroupVersionKind().GroupKind())
	if err != nil {
		return nil, err
	}
	message, done, err := viewer.Status(object, 0)
	if err != nil {
		return nil, err
	}
	return map[string]any{"message": message, "done": done}, nil
}
