{{/* The pod of a component: (dict "root" $ "component" "control-plane" "settings" .Values.controlPlane). */}}
{{- define "keystile.pod" -}}
{{- $root := .root -}}
{{- $v := $root.Values -}}
{{- $s := .settings -}}
{{- $maintenance := and (eq .component "control-plane") $v.controlPlane.maintenance -}}
{{- $file := ternary "maintenance" "keystile" $maintenance -}}
{{- $sleeps := and (gt (int $s.preStopSeconds) 0) (semverCompare ">=1.30.0-0" $root.Capabilities.KubeVersion.Version) -}}
{{- $drain := include "keystile.seconds" (($v.config.shutdown | default dict).drain_timeout | default "10s") -}}
metadata:
  labels:
    {{- with $s.podLabels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
    {{- include "keystile.labels" . | nindent 4 }}
  annotations:
    checksum/config: {{ include "keystile.configData" . | sha256sum }}
    {{- with $s.podAnnotations }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
spec:
  serviceAccountName: {{ include "keystile.account" . }}
  automountServiceAccountToken: false
  enableServiceLinks: false
  terminationGracePeriodSeconds: {{ add (ternary (int $s.preStopSeconds) 0 $sleeps) $drain 5 }}
  {{- with $s.priorityClassName }}
  priorityClassName: {{ . }}
  {{- end }}
  {{- with include "keystile.pullSecrets" $root }}
  imagePullSecrets: {{- . | nindent 4 }}
  {{- end }}
  securityContext:
    {{- include "keystile.podSecurity" $root | nindent 4 }}
  containers:
    - name: keystile
      image: {{ include "keystile.image" (dict "root" $root "image" $v.image "tag" $root.Chart.AppVersion) }}
      imagePullPolicy: {{ $v.image.pullPolicy }}
      args: [serve, -c, /etc/keystile/config/{{ $file }}.yaml]
      {{- with $s.extraEnv }}
      env:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      ports:
        {{- if or (eq .component "checker") (include "keystile.embedded" $root) }}
        - {name: grpc-authz, containerPort: 9001}
        {{- end }}
        {{- if eq .component "control-plane" }}
        - {name: grpc-admin, containerPort: 9002}
        {{- end }}
        - {name: http-ops, containerPort: 9003}
      {{- include "keystile.probes" (dict "root" $root "component" .component "file" $file) | nindent 6 }}
      {{- if $sleeps }}
      lifecycle:
        preStop:
          sleep: {seconds: {{ $s.preStopSeconds }}}
      {{- end }}
      resources:
        {{- toYaml $s.resources | nindent 8 }}
      securityContext:
        {{- include "keystile.containerSecurity" $root | nindent 8 }}
      volumeMounts:
        {{- include "keystile.mounts" . | nindent 8 }}
        {{- with $s.extraVolumeMounts }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
  volumes:
    {{- include "keystile.volumes" . | nindent 4 }}
    {{- with $s.extraVolumes }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  {{- include "keystile.placement" . | nindent 2 }}
{{- end -}}

{{- define "keystile.podSecurity" -}}
runAsNonRoot: true
{{- if not (include "keystile.openshift" .) }}
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
fsGroupChangePolicy: OnRootMismatch
{{- end }}
seccompProfile: {type: RuntimeDefault}
{{- end -}}

{{- define "keystile.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end -}}

{{- define "keystile.mounts" -}}
{{- $v := .root.Values -}}
{{- $isControl := eq .component "control-plane" -}}
{{- $embedded := include "keystile.embedded" .root -}}
{{- $side := ternary $v.redis.controlPlane $v.redis.checker $isControl -}}
- {name: config, mountPath: /etc/keystile/config, readOnly: true}
- {name: data-keyring, mountPath: /etc/keystile/keyrings/data, readOnly: true}
{{- if and $isControl (include "keystile.vault" .root) }}
- {name: vault-keyring, mountPath: /etc/keystile/keyrings/vault, readOnly: true}
{{- end }}
{{- if $v.keyring.existingSigningSecret }}
- {name: signing-keyring, mountPath: /etc/keystile/keyrings/signing, readOnly: true}
{{- end }}
{{- if and $isControl $v.controlPlane.tls.existingSecret }}
- {name: tls-admin, mountPath: /etc/keystile/tls/admin, readOnly: true}
{{- end }}
{{- if and (or (not $isControl) $embedded) $v.checker.tls.existingSecret }}
- {name: tls-authz, mountPath: /etc/keystile/tls/authz, readOnly: true}
{{- end }}
{{- if $embedded }}
- {name: store, mountPath: /var/lib/keystile}
{{- if $v.controlPlane.maintenance }}
- {name: idle, mountPath: /var/lib/keystile-idle}
{{- end }}
{{- else }}
{{- if $side.existingSecret }}
- {name: redis, mountPath: /etc/keystile/redis, readOnly: true}
{{- end }}
{{- if $v.redis.tls.existingSecret }}
- {name: redis-tls, mountPath: /etc/keystile/redis-tls, readOnly: true}
{{- end }}
{{- end }}
{{- end -}}

{{/* A Secret as files that the pod's group alone can read, which Keystile wants: (dict "volume" "secret" "items"). */}}
{{- define "keystile.secretVolume" -}}
- name: {{ .volume }}
  secret:
    secretName: {{ .secret }}
    defaultMode: 0440
    {{- with .items }}
    items:
      {{- range $key, $path := . }}
      - {key: {{ $key | quote }}, path: {{ $path | quote }}}
      {{- end }}
    {{- end }}
{{- end -}}

{{- define "keystile.volumes" -}}
{{- $v := .root.Values -}}
{{- $isControl := eq .component "control-plane" -}}
{{- $embedded := include "keystile.embedded" .root -}}
{{- $side := ternary $v.redis.controlPlane $v.redis.checker $isControl -}}
- name: config
  configMap: {name: {{ include "keystile.fullname" .root }}-{{ .component }}}
{{ include "keystile.secretVolume" (dict "volume" "data-keyring" "secret" (include "keystile.dataSecret" .root) "items" (dict "data.keyring" "data.keyring")) }}
{{- if and $isControl (include "keystile.vault" .root) }}
{{ include "keystile.secretVolume" (dict "volume" "vault-keyring" "secret" (include "keystile.vaultSecret" .root) "items" (dict "vault.keyring" "vault.keyring")) }}
{{- end }}
{{- with $v.keyring.existingSigningSecret }}
{{ include "keystile.secretVolume" (dict "volume" "signing-keyring" "secret" . "items" (dict "signing.keyring" "signing.keyring")) }}
{{- end }}
{{- if and $isControl $v.controlPlane.tls.existingSecret }}
{{ include "keystile.secretVolume" (dict "volume" "tls-admin" "secret" $v.controlPlane.tls.existingSecret) }}
{{- end }}
{{- if and (or (not $isControl) $embedded) $v.checker.tls.existingSecret }}
{{ include "keystile.secretVolume" (dict "volume" "tls-authz" "secret" $v.checker.tls.existingSecret) }}
{{- end }}
{{- if $embedded }}
- name: store
  {{- if $v.controlPlane.persistence.enabled }}
  persistentVolumeClaim:
    claimName: {{ $v.controlPlane.persistence.existingClaim | default (printf "%s-store" (include "keystile.fullname" .root)) }}
  {{- else }}
  emptyDir: {sizeLimit: {{ $v.controlPlane.persistence.size }}}
  {{- end }}
{{- if $v.controlPlane.maintenance }}
- name: idle
  emptyDir: {sizeLimit: 64Mi}
{{- end }}
{{- else }}
{{- with $side.existingSecret }}
{{ include "keystile.secretVolume" (dict "volume" "redis" "secret" . "items" (dict $side.key "password")) }}
{{- end }}
{{- with $v.redis.tls.existingSecret }}
{{ include "keystile.secretVolume" (dict "volume" "redis-tls" "secret" .) }}
{{- end }}
{{- end }}
{{- end -}}

{{- define "keystile.placement" -}}
{{- $s := .settings -}}
{{- with $s.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $s.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $s.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
topologySpreadConstraints:
{{- if $s.topologySpreadConstraints }}
  {{- toYaml $s.topologySpreadConstraints | nindent 2 }}
{{- else }}
{{- range $key := list "topology.kubernetes.io/zone" "kubernetes.io/hostname" }}
  - maxSkew: 1
    topologyKey: {{ $key }}
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels:
        {{- include "keystile.selector" (dict "root" $.root "component" $.component) | nindent 8 }}
{{- end }}
{{- end }}
{{- end -}}

{{/* The entries of a component's ConfigMap. */}}
{{- define "keystile.configData" -}}
keystile.yaml: |
  {{- include "keystile.config" (dict "root" .root "role" .component) | nindent 2 }}
{{- if and (eq .component "control-plane") .root.Values.controlPlane.maintenance }}
maintenance.yaml: |
  {{- include "keystile.config" (dict "root" .root "role" "maintenance") | nindent 2 }}
{{- end }}
{{- end -}}
