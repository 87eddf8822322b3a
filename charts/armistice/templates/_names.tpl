{{/* The name of all that is made. webhook/installation.py derives the same names from it. */}}
{{- define "armistice.fullname" -}}
{{- .Values.fullnameOverride | default .Release.Name -}}
{{- end -}}

{{/* Labels that never change for a component: what selectors look for. Takes (list $ "webhook"). */}}
{{- define "armistice.selector" -}}
app.kubernetes.io/name: armistice
app.kubernetes.io/instance: {{ (index . 0).Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end -}}

{{/* Labels of every object. The emergency command finds the configurations by app.kubernetes.io/name. */}}
{{- define "armistice.labels" -}}
{{- $top := index . 0 -}}
{{ include "armistice.selector" . }}
app.kubernetes.io/part-of: armistice
app.kubernetes.io/version: {{ $top.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ $top.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" $top.Chart.Name ($top.Chart.Version | replace "+" "_") }}
{{- with $top.Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* Labels of pods. No mesh may inject its proxy: it would wait for pods that wait for this one. */}}
{{- define "armistice.podLabels" -}}
{{ include "armistice.labels" . }}
sidecar.istio.io/inject: "false"
istio.io/dataplane-mode: none
{{- end -}}

{{- define "armistice.podAnnotations" -}}
sidecar.istio.io/inject: "false"
linkerd.io/inject: disabled
{{- end -}}

{{/* An image. Takes (list $ .Values.webhook.image). */}}
{{- define "armistice.image" -}}
{{- $top := index . 0 -}}
{{- $image := index . 1 -}}
{{- with $top.Values.image.registry }}{{ trimSuffix "/" . }}/{{ end -}}
{{- $image.repository -}}
{{- if $image.digest }}@{{ $image.digest }}{{ else }}:{{ $image.tag | default $top.Chart.AppVersion }}{{ end -}}
{{- end -}}

{{/* What a container may do that needs nothing: Pod Security's level "restricted", and no file to write. */}}
{{- define "armistice.restrictedContainer" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end -}}

{{- define "armistice.restrictedPod" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{/* The file --config of the webhook. */}}
{{- define "armistice.config" -}}
{{- $share := .Values.defaults.maxSidecarShare -}}
defaults:
  enforce: {{ .Values.defaults.enforce }}
  warn: {{ .Values.defaults.warn }}
  audit: {{ .Values.defaults.audit }}
  max-sidecar-share: {{ if kindIs "invalid" $share }}null{{ else }}{{ int $share }}{{ end }}
  scope: {{ .Values.defaults.scope }}
  isolation: {{ .Values.defaults.isolation }}
  smt: {{ .Values.defaults.smt }}
exempt:
  namespaces: {{ toJson .Values.exempt.namespaces }}
  usernames: {{ toJson .Values.exempt.usernames }}
  runtime-classes: {{ toJson .Values.exempt.runtimeClasses }}
mode: {{ .Values.mode }}
unknown: {{ .Values.unknown }}
{{- end -}}
