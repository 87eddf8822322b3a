{{/*
Whom the API server asks about, as a list of (name, failurePolicy, matchExpressions): the namespaces that enforce, those
of the others that warn, those of the others that audit, and, only where a default asks for something, all that are
left. A namespaceSelector cannot say "or", so each is an entry of its own, and no namespace is in two.
*/}}
{{- define "armistice.audiences" -}}
{{- $enforce := "armistice.dev/enforce" -}}
{{- $warn := "armistice.dev/warn" -}}
{{- $audit := "armistice.dev/audit" -}}
- name: enforce
  # Where nothing is enforced, nothing is worth refusing pods for.
  failurePolicy: {{ ternary .Values.webhook.failurePolicy "Ignore" (eq .Values.mode "enforce") }}
  matchExpressions:
    - {key: {{ $enforce }}, operator: Exists}
- name: warn
  failurePolicy: Ignore
  matchExpressions:
    - {key: {{ $enforce }}, operator: DoesNotExist}
    - {key: {{ $warn }}, operator: Exists}
- name: audit
  failurePolicy: Ignore
  matchExpressions:
    - {key: {{ $enforce }}, operator: DoesNotExist}
    - {key: {{ $warn }}, operator: DoesNotExist}
    - {key: {{ $audit }}, operator: Exists}
{{- if include "armistice.defaultsAsk" . }}
- name: default
  failurePolicy: Ignore
  matchExpressions:
    - {key: {{ $enforce }}, operator: DoesNotExist}
    - {key: {{ $warn }}, operator: DoesNotExist}
    - {key: {{ $audit }}, operator: DoesNotExist}
{{- end }}
{{- end -}}

{{/* Not empty where a namespace without labels is asked for something. */}}
{{- define "armistice.defaultsAsk" -}}
{{- $defaults := .Values.defaults -}}
{{- if or (ne $defaults.enforce "none") (ne $defaults.warn "none") (ne $defaults.audit "none") }}yes{{ end -}}
{{- end -}}

{{/* Namespaces that are never asked about, as one more expression. Takes (list $ matchExpressions). */}}
{{- define "armistice.namespaceSelector" -}}
{{- $top := index . 0 -}}
{{- $exempt := concat (list "kube-system" $top.Release.Namespace) $top.Values.exempt.namespaces | uniq -}}
{{- $never := dict "key" "kubernetes.io/metadata.name" "operator" "NotIn" "values" $exempt -}}
namespaceSelector:
  matchExpressions: {{- append (index . 1) $never | toYaml | nindent 4 }}
{{- end -}}

{{/* What all entries have. No caBundle: the webhook writes it, and nobody else may undo that. Takes (list $ path). */}}
{{- define "armistice.called" -}}
{{- $top := index . 0 -}}
admissionReviewVersions: [v1]
sideEffects: None
matchPolicy: Equivalent
clientConfig:
  service:
    name: {{ include "armistice.fullname" $top }}-webhook
    namespace: {{ $top.Release.Namespace }}
    port: 443
    path: {{ index . 1 }}
{{- end -}}

{{/* The image of a static pod: nothing that is changed in it reaches the pod. */}}
{{- define "armistice.notMirror" -}}
- name: not-the-mirror-of-a-static-pod
  expression: >-
    !has(object.metadata.annotations) || !("kubernetes.io/config.mirror" in object.metadata.annotations)
{{- end -}}

{{/* What makes pods, in the two API groups and the core. */}}
{{- define "armistice.templateRules" -}}
- operations: [CREATE, UPDATE]
  apiGroups: [apps]
  apiVersions: [v1]
  resources: [deployments, statefulsets, daemonsets, replicasets]
  scope: Namespaced
- operations: [CREATE, UPDATE]
  apiGroups: [batch]
  apiVersions: [v1]
  resources: [jobs, cronjobs]
  scope: Namespaced
- operations: [CREATE, UPDATE]
  apiGroups: [""]
  apiVersions: [v1]
  resources: [replicationcontrollers, podtemplates]
  scope: Namespaced
{{- end -}}

{{- define "armistice.templateConditions" -}}
- name: not-made-by-a-controller
  expression: >-
    !has(object.metadata.ownerReferences) ||
    !object.metadata.ownerReferences.exists(owner, has(owner.controller) && owner.controller)
- name: new-or-other-than-before
  expression: >-
    request.operation == "CREATE" || !has(object.spec) || object.spec != oldObject.spec
{{- end -}}

{{/* cert-manager's own controller writes the bundle where it makes the certificates. */}}
{{- define "armistice.injection" -}}
{{- if .Values.certManager.enabled -}}
annotations:
  cert-manager.io/inject-ca-from: {{ .Release.Namespace }}/{{ include "armistice.fullname" . }}-webhook
{{- end -}}
{{- end -}}
