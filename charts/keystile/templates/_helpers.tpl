{{- define "keystile.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- ternary .Release.Name (printf "%s-%s" .Release.Name $name) (contains $name .Release.Name) | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{/* Labels by which pods are selected: (dict "root" $ "component" "checker"). They never change. */}}
{{- define "keystile.selector" -}}
app.kubernetes.io/name: {{ default .root.Chart.Name .root.Values.nameOverride | trunc 63 | trimSuffix "-" }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end -}}

{{- define "keystile.labels" -}}
{{ include "keystile.selector" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" | trunc 63 }}
{{- end -}}

{{/* An image's name: (dict "root" $ "image" .Values.image "tag" "fallback"). */}}
{{- define "keystile.image" -}}
{{- $registry := .root.Values.global.imageRegistry | default .image.registry -}}
{{- $name := ternary (printf "%s/%s" $registry .image.repository) .image.repository (ne $registry "") -}}
{{- if .image.digest -}}
{{- printf "%s@%s" $name .image.digest -}}
{{- else -}}
{{- printf "%s:%s" $name (.image.tag | default .tag) -}}
{{- end -}}
{{- end -}}

{{- define "keystile.pullSecrets" -}}
{{- range .Values.global.imagePullSecrets }}
- name: {{ . }}
{{- end }}
{{- end -}}

{{/* "true" or "": an embedded store belongs to one process. */}}
{{- define "keystile.embedded" -}}
{{- if ne ((.Values.config.store | default dict).kind | default "embedded") "redis" -}}true{{- end -}}
{{- end -}}

{{/* The component that answers checks. */}}
{{- define "keystile.answers" -}}
{{- ternary "control-plane" "checker" (eq (include "keystile.embedded" .) "true") -}}
{{- end -}}

{{- define "keystile.openshift" -}}
{{- $set := toString .Values.openshift -}}
{{- if or (eq $set "true") (and (eq $set "auto") (.Capabilities.APIVersions.Has "security.openshift.io/v1")) -}}true{{- end -}}
{{- end -}}

{{- define "keystile.dataSecret" -}}
{{- .Values.keyring.existingDataSecret | default (printf "%s-data-keyring" (include "keystile.fullname" .)) -}}
{{- end -}}

{{- define "keystile.vaultSecret" -}}
{{- .Values.keyring.existingVaultSecret | default (printf "%s-vault-keyring" (include "keystile.fullname" .)) -}}
{{- end -}}

{{/* "true" unless no token is kept, so that nobody needs the vault. */}}
{{- define "keystile.vault" -}}
{{- if ne ((.Values.config.tokens | default dict).secret_retention | default "sealed") "none" -}}true{{- end -}}
{{- end -}}

{{/* The account of a component: (dict "root" $ "component" "checker" "settings" .Values.checker). */}}
{{- define "keystile.account" -}}
{{- $own := printf "%s-%s" (include "keystile.fullname" .root) .component -}}
{{- .settings.serviceAccount.name | default (ternary $own "default" .settings.serviceAccount.create) -}}
{{- end -}}

{{/* A duration of the config in whole seconds, rounded up. */}}
{{- define "keystile.seconds" -}}
{{- $n := regexFind "^[0-9]+" . | int -}}
{{- $unit := regexFind "[a-z]+$" . -}}
{{- if eq $unit "ms" -}}{{- div (add $n 999) 1000 -}}
{{- else if eq $unit "m" -}}{{- mul $n 60 -}}
{{- else -}}{{- $n -}}{{- end -}}
{{- end -}}

{{/* Whether a kind is rendered: (dict "root" $ "mode" "skipIfMissing" "kind" "ServiceMonitor" "value" "…"). */}}
{{- define "keystile.knows" -}}
{{- if or (eq .mode "alwaysRender") (.root.Capabilities.APIVersions.Has (printf "monitoring.coreos.com/v1/%s" .kind)) -}}true
{{- else if eq .mode "failIfMissing" -}}
{{- fail (printf "%s.renderMode is failIfMissing and the cluster has no monitoring.coreos.com/v1 %s: install the Prometheus operator first, or say skipIfMissing" .value .kind) -}}
{{- end -}}
{{- end -}}

{{- define "keystile.families" -}}
{{- with .Values.service.ipFamilyPolicy }}
ipFamilyPolicy: {{ . }}
{{- end }}
{{- with .Values.service.ipFamilies }}
ipFamilies: {{ toJson . }}
{{- end }}
{{- end -}}
