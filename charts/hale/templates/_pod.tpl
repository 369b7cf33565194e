{{/*
The pod, the same in a Deployment and in a DaemonSet.
*/}}
{{- define "hale.pod" -}}
{{- $c := .Values.controller -}}
metadata:
  labels:
    {{- include "hale.labels" . | nindent 4 }}
    {{- with $c.podLabels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  {{- with $c.podAnnotations }}
  annotations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
spec:
  serviceAccountName: {{ include "hale.serviceAccountName" . }}
  automountServiceAccountToken: true
  # Off, because links of a Service called `hale-http` would set HALE_HTTP_PORT=tcp://…, which is a flag's variable.
  enableServiceLinks: false
  {{- with .Values.imagePullSecrets }}
  imagePullSecrets:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $c.priorityClassName }}
  priorityClassName: {{ . | quote }}
  {{- end }}
  {{- if $c.hostNetwork }}
  hostNetwork: true
  dnsPolicy: {{ ternary "ClusterFirstWithHostNet" $c.dnsPolicy (eq $c.dnsPolicy "ClusterFirst") }}
  {{- else }}
  dnsPolicy: {{ $c.dnsPolicy }}
  {{- end }}
  terminationGracePeriodSeconds: {{ int $c.terminationGracePeriodSeconds }}
  securityContext:
    runAsNonRoot: true
    runAsUser: 65532
    runAsGroup: 65532
    fsGroup: 65532
    seccompProfile:
      type: RuntimeDefault
  containers:
    - name: controller
      image: {{ include "hale.image" . | quote }}
      imagePullPolicy: {{ $c.image.pullPolicy }}
      args:
        {{- include "hale.args" . | nindent 8 }}
      env:
        # Who this is: the holder in the Lease, and the namespace that the Lease is in.
        - name: POD_NAME
          valueFrom:
            fieldRef:
              fieldPath: metadata.name
        - name: POD_NAMESPACE
          valueFrom:
            fieldRef:
              fieldPath: metadata.namespace
        {{- with $c.extraEnvs }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      ports:
        {{- range $name := list "http" "https" }}
        - name: {{ $name }}
          containerPort: {{ int (get $c.containerPort $name) }}
          protocol: TCP
          {{- if and $c.hostPort.enabled (not $c.hostNetwork) }}
          hostPort: {{ int (get $c.hostPort.ports $name) }}
          {{- end }}
        {{- end }}
        - name: metrics
          containerPort: {{ int $c.metrics.port }}
          protocol: TCP
      livenessProbe:
        httpGet:
          path: /livez
          port: metrics
        {{- toYaml $c.livenessProbe | nindent 8 }}
      readinessProbe:
        httpGet:
          path: /readyz
          port: metrics
        {{- toYaml $c.readinessProbe | nindent 8 }}
      {{- with $c.resources }}
      resources:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      securityContext:
        {{- include "hale.securityContext" . | nindent 8 }}
      {{- with $c.extraVolumeMounts }}
      volumeMounts:
        {{- toYaml . | nindent 8 }}
      {{- end }}
  {{- with $c.extraVolumes }}
  volumes:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $c.nodeSelector }}
  nodeSelector:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $c.tolerations }}
  tolerations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $c.affinity }}
  affinity:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $c.topologySpreadConstraints }}
  topologySpreadConstraints:
    {{- range . }}
    {{- $constraint := deepCopy . }}
    {{- if not $constraint.labelSelector }}
    {{- $_ := set $constraint "labelSelector" (dict "matchLabels" (include "hale.selectorLabels" $ | fromYaml)) }}
    {{- end }}
    -
      {{- toYaml $constraint | nindent 6 }}
    {{- end }}
  {{- end }}
{{- end -}}

{{/*
What `hale run` is started with. No preStop hook: at SIGTERM the process itself fails /readyz, goes on
serving for the delay, and then finishes what is in flight. 5 s are left for saying goodbye to the API server.
*/}}
{{- define "hale.args" -}}
{{- $c := .Values.controller -}}
{{- $delay := int $c.shutdownDelaySeconds -}}
- run
- --ingress-class={{ $c.ingressClassResource.name }}
- --controller-class={{ $c.ingressClassResource.controllerValue }}
{{- if $c.watchIngressWithoutClass }}
- --watch-ingress-without-class=true
{{- end }}
- --election-id={{ include "hale.electionID" . }}
{{- with include "hale.publishService" . }}
- --publish-service={{ . }}
{{- end }}
{{- with include "hale.replicasService" . }}
- --replicas-service={{ . }}
{{- end }}
{{- with include "hale.watchNamespace" . }}
- --watch-namespace={{ . }}
{{- end }}
- --http-port={{ int $c.containerPort.http }}
- --https-port={{ int $c.containerPort.https }}
- --healthz-port={{ int $c.metrics.port }}
- --shutdown-delay={{ $delay }}s
- --shutdown-grace-period={{ sub (int $c.terminationGracePeriodSeconds) (add $delay 5) | max 1 }}s
{{- range $flag, $value := $c.extraArgs }}
{{- if kindIs "invalid" $value }}
- --{{ $flag }}
{{- else if kindIs "slice" $value }}
{{- range $value }}
- {{ printf "--%s=%v" $flag . | quote }}
{{- end }}
{{- else if kindIs "float64" $value }}
- {{ printf "--%s=%s" $flag (toJson $value) | quote }}
{{- else }}
- {{ printf "--%s=%v" $flag $value | quote }}
{{- end }}
{{- end }}
{{- end -}}
