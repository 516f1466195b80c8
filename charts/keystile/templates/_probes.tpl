{{/* The probes of a server: (dict "root" $ "component" "checker" "file" "keystile"). */}}
{{- define "keystile.probes" -}}
{{- $grpc := and (eq .root.Values.probes.type "grpc") (eq .component (include "keystile.answers" .root)) (eq .file "keystile") -}}
startupProbe:
  {{- include "keystile.probe" (dict "p" . "live" true) | nindent 2 }}
  periodSeconds: 2
  timeoutSeconds: 3
  failureThreshold: 60
livenessProbe:
  {{- include "keystile.probe" (dict "p" . "live" true) | nindent 2 }}
  periodSeconds: 10
  timeoutSeconds: 3
# Not ready: the store was never reached, or the process is stopping. An outage later leaves it ready.
readinessProbe:
  {{- if $grpc }}
  grpc: {port: 9001}
  {{- else }}
  {{- include "keystile.probe" (dict "p" . "live" false) | nindent 2 }}
  {{- end }}
  periodSeconds: 5
  timeoutSeconds: 3
{{- end -}}

{{/* `live`: whether the process answers at all; a bad store is no reason to restart it. By address, since a mistake in a
followed file is none either. */}}
{{- define "keystile.probe" -}}
{{- if eq .p.root.Values.probes.type "exec" -}}
exec:
  command: [/usr/bin/keystile, health, {{ if .live }}--live, {{ end }}--addr=127.0.0.1:9003]
{{- else -}}
httpGet: {path: {{ ternary "/healthz" "/readyz" .live }}, port: http-ops}
{{- end -}}
{{- end -}}
