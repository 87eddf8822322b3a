{{/* A pod's spec that does one chore of files/chores.py. Takes (list $ "ask" image environment). */}}
{{- define "armistice.chore" -}}
{{- $top := index . 0 -}}
{{- $chore := index . 1 -}}
serviceAccountName: {{ include "armistice.fullname" $top }}-{{ ternary "test" "cleanup" (eq $chore "ask") }}
automountServiceAccountToken: true
restartPolicy: Never
{{- with $top.Values.image.pullSecrets }}
imagePullSecrets: {{- toYaml . | nindent 2 }}
{{- end }}
nodeSelector:
  kubernetes.io/os: linux
tolerations:
  - operator: Exists
securityContext: {{- include "armistice.restrictedPod" $top | nindent 2 }}
containers:
  - name: {{ $chore }}
    image: {{ include "armistice.image" (list $top (index . 2)) | quote }}
    imagePullPolicy: {{ $top.Values.image.pullPolicy }}
    command: [python, -c]
    args:
      - |
        {{- $top.Files.Get "files/chores.py" | nindent 8 }}
      - {{ $chore }}
    {{- with index . 3 }}
    env: {{- toYaml . | nindent 6 }}
    {{- end }}
    resources:
      requests: {cpu: 10m, memory: 32Mi}
      limits: {memory: 64Mi}
    securityContext: {{- include "armistice.restrictedContainer" $top | nindent 6 }}
{{- end -}}
