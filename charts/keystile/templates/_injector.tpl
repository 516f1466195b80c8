{{/* The injector and the sidecars that it puts into pods. */}}

{{- define "keystile.sidecarName" -}}
{{- printf "%s-sidecar" (include "keystile.fullname" .) -}}
{{- end -}}

{{- define "keystile.webhookSecret" -}}
{{- .Values.injector.tls.existingSecret | default (printf "%s-injector-tls" (include "keystile.fullname" .)) -}}
{{- end -}}

{{/* The config of the injector's process: what it needs of `config`, and what hangs on the chart's objects. */}}
{{- define "keystile.injectorConfig" -}}
{{- $v := .Values -}}
{{- $any := ternary "[::]" "0.0.0.0" (or (has "IPv6" $v.service.ipFamilies) (hasSuffix "DualStack" $v.service.ipFamilyPolicy)) -}}
{{- $c := pick (deepCopy $v.config) "profile" "telemetry" "shutdown" -}}
{{- $injector := deepCopy ($v.config.injector | default dict) -}}
{{- $_ := set $injector "listen" (list (printf "%s:9443" $any)) -}}
{{- $_ := set $injector "tls" (dict "cert_file" "/etc/keystile/tls/tls.crt" "key_file" "/etc/keystile/tls/tls.key") -}}
{{- $_ := set $injector "excluded_namespaces" (include "keystile.excludedNamespaces" . | fromJsonArray) -}}
{{- $made := dict "image" (include "keystile.image" (dict "root" . "image" $v.image "tag" .Chart.AppVersion)) -}}
{{- $_ := set $made "image_pull_policy" $v.image.pullPolicy -}}
{{- with $v.global.imagePullSecrets -}}{{- $_ := set $made "image_pull_secrets" . -}}{{- end -}}
{{- $_ := set $made "config_map" (include "keystile.sidecarName" .) -}}
{{- $_ := set $made "secrets" (include "keystile.sidecarSecrets" . | fromJsonArray) -}}
{{- if include "keystile.openshift" . -}}{{- $_ := set $made "run_as_user" 0 -}}{{- end -}}
{{- $_ := set $injector "sidecar" (merge ($injector.sidecar | default dict) $made) -}}
{{- $_ := set $c "injector" $injector -}}
{{- $_ := set $c "ops" (merge (dict "listen" (list (printf "%s:9003" $any)) "insecure" true) (deepCopy ($v.config.ops | default dict))) -}}
{{- toYaml $c -}}
{{- end -}}

{{/* Namespaces that are never touched, so that the injector cannot keep itself or the cluster from starting. */}}
{{- define "keystile.excludedNamespaces" -}}
{{- $more := (.Values.config.injector | default dict).excluded_namespaces | default list -}}
{{- concat (list "kube-system" "kube-public" "kube-node-lease" .Release.Namespace) $more | uniq | toJson -}}
{{- end -}}

{{/* Entries of Secrets that a sidecar gets as files: those of a checker. */}}
{{- define "keystile.sidecarSecrets" -}}
{{- $v := .Values -}}
{{- $all := list (dict "name" (include "keystile.dataSecret" .) "entry" "data.keyring") -}}
{{- with $v.keyring.existingSigningSecret -}}
{{- $all = append $all (dict "name" . "entry" "signing.keyring") -}}
{{- end -}}
{{- with $v.redis.checker.existingSecret -}}
{{- $all = append $all (dict "name" . "entry" $v.redis.checker.key "file" "redis-password") -}}
{{- end -}}
{{- with $v.redis.tls.existingSecret -}}
{{- $all = append $all (dict "name" . "entry" "ca.crt" "file" "redis-ca.crt") -}}
{{- if $v.redis.tls.clientCertificate -}}
{{- $all = append $all (dict "name" . "entry" "tls.crt" "file" "redis-tls.crt") -}}
{{- $all = append $all (dict "name" . "entry" "tls.key" "file" "redis-tls.key") -}}
{{- end -}}
{{- end -}}
{{- $all | toJson -}}
{{- end -}}

{{/* A sidecar's config: a checker's, with its own files. Where it listens is set by the injector, pod by pod. */}}
{{- define "keystile.sidecarConfig" -}}
{{- $c := include "keystile.config" (dict "root" . "role" "checker") | fromYaml -}}
{{- $files := "/etc/keystile/secrets" -}}
{{- $_ := set $c "authz" (omit $c.authz "listen" "tls" "insecure") -}}
{{- $_ := set $c "ops" (omit $c.ops "listen" "insecure") -}}
{{- $_ := set $c.keyring.data "file" (printf "%s/data.keyring" $files) -}}
{{- if $c.keyring.signing -}}
{{- $_ := set $c.keyring.signing "file" (printf "%s/signing.keyring" $files) -}}
{{- end -}}
{{- range $field, $file := dict "password_file" "redis-password" "ca_file" "redis-ca.crt" "cert_file" "redis-tls.crt" "key_file" "redis-tls.key" -}}
{{- if hasKey $c.store.redis $field -}}
{{- $_ := set $c.store.redis $field (printf "%s/%s" $files $file) -}}
{{- end -}}
{{- end -}}
{{- toYaml $c -}}
{{- end -}}

{{/* What the schema cannot say of the injector. */}}
{{- define "keystile.injectorChecks" -}}
{{- $v := .Values -}}
{{- $i := $v.injector -}}
{{- if include "keystile.embedded" . -}}
{{- fail "injector.enabled is true, and an embedded store belongs to one process, which no sidecar can read: move to Redis (config.store.kind: redis), or leave the injector off" -}}
{{- end -}}
{{- range $field := list "listen" "tls" -}}
{{- if hasKey ($v.config.injector | default dict) $field -}}
{{- fail (printf "config.injector.%s is set by the chart: remove it; the certificate is set by injector.tls" $field) -}}
{{- end -}}
{{- end -}}
{{- if and $i.tls.existingSecret (not $i.tls.caBundle) (not $i.tls.certManager.enabled) -}}
{{- fail "injector.tls.existingSecret is set and injector.tls.caBundle is missing: put there the PEM of the CA that has signed the certificate, or let cert-manager make the Secret (injector.tls.certManager.enabled)" -}}
{{- end -}}
{{- if and $i.tls.caBundle (not $i.tls.existingSecret) -}}
{{- fail "injector.tls.caBundle is set and injector.tls.existingSecret is missing: name a Secret with tls.crt and tls.key there, or remove caBundle" -}}
{{- end -}}
{{- if and $i.tls.caBundle $i.tls.certManager.enabled -}}
{{- fail "injector.tls.caBundle and injector.tls.certManager.enabled are both set, and cert-manager writes the bundle itself: remove one" -}}
{{- end -}}
{{- if has .Release.Namespace $i.namespaces -}}
{{- fail (printf "injector.namespaces has %s, the release's own namespace, whose pods get no sidecar: remove it" .Release.Namespace) -}}
{{- end -}}
{{- end -}}
