{{- define "spoor.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{- /* What all objects are called. */ -}}
{{- define "spoor.fullname" -}}
{{- default (include "spoor.name" .) .Values.fullnameOverride | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{- define "spoor.namespace" -}}
{{- default .Release.Namespace .Values.namespaceOverride -}}
{{- end -}}

{{- define "spoor.serviceAccount" -}}
{{- default (include "spoor.fullname" .) .Values.serviceAccount.name -}}
{{- end -}}

{{- define "spoor.image" -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ default .Chart.AppVersion .Values.image.tag }}
{{- end -}}
{{- end -}}

{{- define "spoor.selector" -}}
app.kubernetes.io/name: {{ include "spoor.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "spoor.labels" -}}
{{ include "spoor.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end -}}

{{- /* A privileged container has no profile. */ -}}
{{- define "spoor.seccomp" -}}
{{- if .Values.privileged }}Unconfined{{ else }}{{ .Values.seccomp.type }}{{ end -}}
{{- end -}}

{{- /* The port of the back end: what the endpoint says, else what its scheme means. */ -}}
{{- define "spoor.otlpPort" -}}
{{- $authority := regexReplaceAll "^[a-z]+://([^/]*).*$" .Values.otlp.endpoint "${1}" -}}
{{- $port := regexFind ":[0-9]+$" $authority | trimPrefix ":" -}}
{{- if $port }}{{ $port }}{{ else if hasPrefix "https:" .Values.otlp.endpoint }}443{{ else }}80{{ end -}}
{{- end -}}
