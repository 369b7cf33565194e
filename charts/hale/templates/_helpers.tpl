{{/*
Names and labels. Everything is called <fullname> or <fullname>-<what>: a release called `hale` gives a
Deployment, a Service and a ServiceAccount called `hale`.
*/}}
{{- define "hale.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{/* Cut at 50, so that suffixes and the Pods' own still fit into 63. */}}
{{- define "hale.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- $name := include "hale.name" . -}}
{{- if contains $name .Release.Name -}}
{{- .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 50 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "hale.namespace" -}}
{{- default .Release.Namespace .Values.namespaceOverride -}}
{{- end -}}

{{- define "hale.selectorLabels" -}}
app.kubernetes.io/name: {{ include "hale.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: controller
{{- end -}}

{{- define "hale.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{ include "hale.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/part-of: {{ include "hale.name" . }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "hale.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "hale.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{- define "hale.image" -}}
{{- $image := .Values.controller.image -}}
{{- $image.repository }}:{{ default .Chart.AppVersion $image.tag }}
{{- with $image.digest }}@{{ . }}{{ end -}}
{{- end -}}

{{- define "hale.electionID" -}}
{{- default (printf "%s-leader" (include "hale.fullname" .)) .Values.controller.electionID -}}
{{- end -}}

{{/* The one namespace that is watched, or nothing for all of them. */}}
{{- define "hale.watchNamespace" -}}
{{- if .Values.controller.scope.enabled -}}
{{- default (include "hale.namespace" .) .Values.controller.scope.namespace -}}
{{- end -}}
{{- end -}}

{{/* namespace/name of the Service whose address Ingresses get, or nothing. */}}
{{- define "hale.publishService" -}}
{{- with .Values.controller -}}
{{- if .publishService.enabled -}}
{{- if .publishService.pathOverride -}}
{{- .publishService.pathOverride -}}
{{- else if .service.enabled -}}
{{- printf "%s/%s" (include "hale.namespace" $) (include "hale.fullname" $) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/*
namespace/name of a Service of the chart's own whose ready endpoints are the replicas, or nothing. Not that of
publishService.pathOverride: its endpoints may be somebody else's.
*/}}
{{- define "hale.replicasService" -}}
{{- with .Values.controller -}}
{{- if .service.enabled -}}
{{- printf "%s/%s" (include "hale.namespace" $) (include "hale.fullname" $) -}}
{{- else if .metrics.enabled -}}
{{- printf "%s/%s-metrics" (include "hale.namespace" $) (include "hale.fullname" $) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* "true" where more than one pod is wanted. */}}
{{- define "hale.manyReplicas" -}}
{{- with .Values.controller -}}
{{- if eq .kind "Deployment" -}}
{{- if ternary (gt (int .autoscaling.minReplicas) 1) (gt (int .replicaCount) 1) .autoscaling.enabled -}}
true
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* Pod Security "restricted", for the container and for the test's. */}}
{{- define "hale.securityContext" -}}
allowPrivilegeEscalation: false
capabilities:
  drop: [ALL]
readOnlyRootFilesystem: true
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
seccompProfile:
  type: RuntimeDefault
{{- end -}}
