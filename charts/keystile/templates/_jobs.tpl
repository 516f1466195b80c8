{{/* What the Jobs that make, store and remove Secrets have in common. */}}

{{/* An account that may do `verbs` to Secrets, those of `names` if there are any: (dict "root" "name" "component" "hook"
"verbs" "names"). It lives as long as its hook. */}}
{{- define "keystile.storingAccount" -}}
{{- $c := dict "root" .root "component" .component -}}
{{- range $kind, $api := dict "ServiceAccount" "v1" "Role" "rbac.authorization.k8s.io/v1" "RoleBinding" "rbac.authorization.k8s.io/v1" }}
---
apiVersion: {{ $api }}
kind: {{ $kind }}
metadata:
  name: {{ $.name }}
  namespace: {{ $.root.Release.Namespace }}
  labels:
    {{- include "keystile.labels" $c | nindent 4 }}
  annotations:
    helm.sh/hook: {{ $.hook }}
    helm.sh/hook-weight: "-10"
    helm.sh/hook-delete-policy: before-hook-creation,hook-succeeded,hook-failed
{{- if eq $kind "ServiceAccount" }}
automountServiceAccountToken: false
{{- else if eq $kind "Role" }}
rules:
  {{- if $.names }}
  - {apiGroups: [""], resources: [secrets], resourceNames: {{ toJson $.names }}, verbs: {{ toJson $.verbs }}}
  {{- else }}
  # To create, and neither to read nor to change: what is there cannot be overwritten.
  - {apiGroups: [""], resources: [secrets], verbs: {{ toJson $.verbs }}}
  {{- end }}
{{- else }}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: {{ $.name }}}
subjects:
  - {kind: ServiceAccount, name: {{ $.name }}, namespace: {{ $.root.Release.Namespace }}}
{{- end }}
{{- end }}
{{- end -}}

{{/* Who a Job's pod is, and where it runs: (dict "root" "name"). */}}
{{- define "keystile.jobPod" -}}
serviceAccountName: {{ .name }}
# kubectl alone gets the token, by a volume.
automountServiceAccountToken: false
enableServiceLinks: false
{{- with include "keystile.pullSecrets" .root }}
imagePullSecrets: {{- . }}
{{- end }}
securityContext:
  {{- include "keystile.podSecurity" .root | nindent 2 }}
{{- with .root.Values.controlPlane.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .root.Values.controlPlane.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{- define "keystile.jobResources" -}}
requests: {cpu: 20m, memory: 32Mi}
limits: {memory: 128Mi}
{{- end -}}

{{- define "keystile.kubectl" -}}
image: {{ include "keystile.image" (dict "root" .root "image" .root.Values.keyring.kubectl.image "tag" "") }}
imagePullPolicy: {{ .root.Values.keyring.kubectl.image.pullPolicy }}
resources:
  {{- include "keystile.jobResources" .root | nindent 2 }}
securityContext:
  {{- include "keystile.containerSecurity" .root | nindent 2 }}
{{- end -}}

{{- define "keystile.tokenMount" -}}
- {name: token, mountPath: /var/run/secrets/kubernetes.io/serviceaccount, readOnly: true}
{{- end -}}

{{- define "keystile.tokenVolume" -}}
- name: token
  projected:
    defaultMode: 0440
    sources:
      - serviceAccountToken: {path: token, expirationSeconds: 600}
      - configMap:
          name: kube-root-ca.crt
          items: [{key: ca.crt, path: ca.crt}]
      - downwardAPI:
          items: [{path: namespace, fieldRef: {apiVersion: v1, fieldPath: metadata.namespace}}]
{{- end -}}

{{- define "keystile.bootstrapSecret" -}}
{{- printf "%s-bootstrap" (include "keystile.fullname" .) -}}
{{- end -}}
