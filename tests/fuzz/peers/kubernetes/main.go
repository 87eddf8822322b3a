// Reads quantities and pods as the API server does, with its own code.
//
// One JSON object per line comes in, one per line goes out; a batch ends with an empty line, and is answered then.
//
//	{"text": "1.5Gi"}       resource.ParseQuantity
//	{"json": 1.5}           Quantity.UnmarshalJSON
//	{"pod": {"spec": ...}}  the defaults of reading, creating and reading again, then the scheduler's PodRequests
//
// Amounts go out as [unscaled, scale]: unscaled x 10^-scale, exactly.
package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"os"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	resourcehelper "k8s.io/component-helpers/resource"
	podutil "k8s.io/kubernetes/pkg/api/pod"
	"k8s.io/kubernetes/pkg/apis/core"
	corev1 "k8s.io/kubernetes/pkg/apis/core/v1"
	"k8s.io/kubernetes/pkg/apis/core/v1/helper/qos"
)

type question struct {
	Text *string         `json:"text"`
	JSON json.RawMessage `json:"json"`
	Pod  json.RawMessage `json:"pod"`
}

type amount [2]any

type answer struct {
	Error    string            `json:"error,omitempty"`
	Amount   *amount           `json:"amount,omitempty"`
	Requests map[string]amount `json:"requests"`
	QOS      string            `json:"qos,omitempty"`
}

func main() {
	in := bufio.NewReaderSize(os.Stdin, 1<<20)
	var batch bytes.Buffer
	for {
		line, err := in.ReadBytes('\n')
		if err != nil {
			return
		}
		if len(bytes.TrimSpace(line)) > 0 {
			write(&batch, respond(line))
			continue
		}
		if _, err := batch.WriteTo(os.Stdout); err != nil {
			return
		}
	}
}

func write(batch *bytes.Buffer, said answer) {
	line, err := json.Marshal(said)
	if err != nil {
		panic(err)
	}
	batch.Write(line)
	batch.WriteByte('\n')
}

func respond(line []byte) answer {
	var asked question
	if err := json.Unmarshal(line, &asked); err != nil {
		return answer{Error: fmt.Sprintf("no question: %v", err)}
	}
	switch {
	case asked.Text != nil:
		found, err := resource.ParseQuantity(*asked.Text)
		return quantity(found, err)
	case asked.Pod != nil:
		return pod(asked.Pod)
	default:
		var found resource.Quantity
		err := found.UnmarshalJSON(asked.JSON)
		return quantity(found, err)
	}
}

func quantity(found resource.Quantity, err error) answer {
	if err != nil {
		return answer{Error: err.Error()}
	}
	told := exact(found)
	return answer{Amount: &told}
}

func exact(found resource.Quantity) amount {
	dec := found.AsDec()
	return amount{dec.UnscaledBig().String(), int(dec.Scale())}
}

func pod(raw []byte) answer {
	var read v1.Pod
	if err := json.Unmarshal(raw, &read); err != nil {
		return answer{Error: err.Error()}
	}
	stored, err := stored(&read)
	if err != nil {
		return answer{Error: err.Error()}
	}
	class := qos.ComputePodQOS(stored) // before PodRequests, which adds the overhead into the pod's own decimals
	requests := map[string]amount{}
	for name, found := range resourcehelper.PodRequests(stored, resourcehelper.PodResourcesOptions{}) {
		requests[string(name)] = exact(found)
	}
	return answer{Requests: requests, QOS: string(class)}
}

// stored is the pod as the scheduler gets it: decoded, prepared for its creation, and decoded from the store.
func stored(read *v1.Pod) (*v1.Pod, error) {
	corev1.SetObjectDefaults_Pod(read)
	var internal core.Pod
	if err := corev1.Convert_v1_Pod_To_core_Pod(read, &internal, nil); err != nil {
		return nil, err
	}
	podutil.DefaultPodLevelResources(&internal)
	var again v1.Pod
	if err := corev1.Convert_core_Pod_To_v1_Pod(&internal, &again, nil); err != nil {
		return nil, err
	}
	corev1.SetObjectDefaults_Pod(&again)
	return &again, nil
}
