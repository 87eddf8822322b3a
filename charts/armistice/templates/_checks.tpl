{{/*
Combinations that can serve nobody, each refused in one sentence with the way out. What is wrong about a single value
says values.schema.json. Every object of the chart asks for it first: rendering stops wherever it begins.
*/}}
{{- define "armistice.check" -}}
{{- $values := .Values -}}
{{- $name := include "armistice.fullname" . -}}
{{- $ask := include "armistice.defaultsAsk" . -}}
{{- if and (not $values.webhook.enabled) (not $values.enforcer.enabled) -}}
{{- fail "webhook.enabled and enforcer.enabled are both false, so that nothing is left to install: enable one of the two" -}}
{{- end -}}
{{- if not (regexMatch "^[a-z]([-a-z0-9]{0,48}[a-z0-9])?$" $name) -}}
{{- fail (printf "%s can be no part of a Service's name: set fullnameOverride to at most 50 of a-z, 0-9 and -, with a letter first" $name) -}}
{{- end -}}
{{- if and $values.webhook.enabled (eq (int $values.webhook.replicas) 0) (eq $values.webhook.failurePolicy "Fail") (eq $values.mode "enforce") -}}
{{- fail "webhook.replicas is 0 and webhook.failurePolicy is Fail, so that namespaces that enforce could never create a pod: set webhook.replicas to 1 or more, or webhook.failurePolicy to Ignore" -}}
{{- end -}}
{{- if and $ask (not $values.webhook.enabled) -}}
{{- fail "defaults.enforce, warn or audit is set and webhook.enabled is false, so that nobody would act on it: set webhook.enabled to true, or the defaults to none" -}}
{{- end -}}
{{- if and (ne $values.defaults.enforce "none") (eq $values.mode "audit") -}}
{{- fail "defaults.enforce is set and mode is audit, so that nothing would be enforced: set mode to enforce, or defaults.audit in its place" -}}
{{- end -}}
{{- if and $values.enforcer.enabled (not $values.webhook.enabled) (not $values.enforcer.publicKeys) -}}
{{- fail "enforcer.enabled is true without webhook.enabled, so that no node would know whose intents to believe: set enforcer.publicKeys to the public key of the webhook that signs, or webhook.enabled to true" -}}
{{- end -}}
{{- if $values.certManager.enabled -}}
{{- $issuer := $values.certManager.issuer -}}
{{- if not $values.webhook.enabled -}}
{{- fail "certManager.enabled is true and webhook.enabled is false, so that nobody needs a certificate: set one of the two otherwise" -}}
{{- end -}}
{{- if and (not $issuer.create) (not $issuer.name) -}}
{{- fail "certManager.enabled needs an issuer: set certManager.issuer.name to one that is there, or certManager.issuer.create to true" -}}
{{- end -}}
{{- if and $issuer.create $issuer.name -}}
{{- fail (printf "certManager.issuer.create is true and certManager.issuer.name is %s: set one of the two, not both" $issuer.name) -}}
{{- end -}}
{{- end -}}
{{- if and $values.webhook.hostNetwork $values.webhook.networkPolicy.enabled -}}
{{- fail "webhook.networkPolicy.enabled has no effect on pods on the nodes' own network: set it or webhook.hostNetwork to false" -}}
{{- end -}}
{{- end -}}
