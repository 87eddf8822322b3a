// Command kubelet answers what a kubelet does with pods, by the kubelet's own code of the version in go.mod.
//
// Each line of standard input is a Request: an empty node to start, or the next pod for it. Each is answered by one line
// of standard output: whether the kubelet's managers start there, or what became of the pod.
package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"

	v1 "k8s.io/api/core/v1"
	utilfeature "k8s.io/apiserver/pkg/util/feature"
	"k8s.io/klog/v2"
	"k8s.io/kubernetes/pkg/kubelet/metrics"
)

// gates are those of KEP-5526; in this version it is off unless asked for.
const gates = "PodLevelResources=true,PodLevelResourceManagers=true"

// Request has one of the two.
type Request struct {
	Node *Setup  `json:"node"`
	Pod  *v1.Pod `json:"pod"`
}

// Start is the answer to a node.
type Start struct {
	// Error is why the kubelet's managers do not start on it; empty if they do.
	Error string `json:"error"`
}

func main() {
	runtime.LockOSThread() // its processor time is what is measured
	klog.SetLogger(silent) // what holds no logger of its own
	metrics.Register()     // as in a kubelet: counting is part of what an admission costs
	err := utilfeature.DefaultMutableFeatureGate.Set(gates)
	if err == nil {
		err = serve(os.Stdin, os.Stdout)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func serve(from io.Reader, to io.Writer) error {
	in, out := json.NewDecoder(bufio.NewReader(from)), json.NewEncoder(to)
	var here *node
	for {
		var request Request
		if err := in.Decode(&request); err == io.EOF {
			return nil
		} else if err != nil {
			return fmt.Errorf("a request cannot be read: %w", err)
		}
		var answer any
		switch {
		case request.Node != nil:
			started, err := start(request.Node)
			here = started
			answer = Start{said(err)}
		case request.Pod != nil && here != nil:
			answer = here.admit(request.Pod)
		default:
			return errors.New("a request has neither a node nor a pod for one")
		}
		if err := out.Encode(answer); err != nil {
			return err
		}
	}
}

func said(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}
