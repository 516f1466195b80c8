{{/* The config of a process: (dict "root" $ "role" "control-plane|checker|maintenance"). */}}
{{- define "keystile.config" -}}
{{- $root := .root -}}
{{- $v := $root.Values -}}
{{- $c := deepCopy $v.config -}}
{{- $embedded := include "keystile.embedded" $root -}}
{{- $any := ternary "[::]" "0.0.0.0" (or (has "IPv6" $v.service.ipFamilies) (hasSuffix "DualStack" $v.service.ipFamilyPolicy)) -}}
{{- $authz := $c.authz | default dict -}}
{{- $admin := $c.admin | default dict -}}
{{- if eq .role "maintenance" -}}
{{- $_ := set $authz "listen" (list "127.0.0.1:9001") -}}
{{- else -}}
{{- $_ := set $authz "listen" (list (printf "%s:9001" $any)) -}}
{{- include "keystile.listener" (dict "section" $authz "tls" $v.checker.tls "folder" "authz") -}}
{{- end -}}
{{- if $v.controlPlane.tls.existingSecret -}}
{{- $_ := set $admin "listen" (list (printf "%s:9002" $any)) -}}
{{- include "keystile.listener" (dict "section" $admin "tls" $v.controlPlane.tls "folder" "admin") -}}
{{- else -}}
{{- $_ := set $admin "listen" (list "127.0.0.1:9002") -}}
{{- end -}}
{{- $_ := set $c "ops" (merge (dict "listen" (list (printf "%s:9003" $any)) "insecure" true) ($c.ops | default dict)) -}}
{{- $keyring := dict "data" (dict "file" "/etc/keystile/keyrings/data/data.keyring") -}}
{{- if $v.keyring.existingSigningSecret -}}
{{- $_ := set $keyring "signing" (dict "file" "/etc/keystile/keyrings/signing/signing.keyring") -}}
{{- end -}}
{{- $_ := unset $c "authz" -}}
{{- $_ := unset $c "admin" -}}
{{- $_ := unset $c "injector" -}}
{{- if or (ne .role "control-plane") $embedded -}}{{- $_ := set $c "authz" $authz -}}{{- end -}}
{{- if eq .role "control-plane" -}}
{{- $_ := set $c "admin" $admin -}}
{{- if include "keystile.vault" $root -}}
{{- $_ := set $keyring "vault" (dict "file" "/etc/keystile/keyrings/vault/vault.keyring") -}}
{{- end -}}
{{- end -}}
{{- $_ := set $c "keyring" $keyring -}}
{{- $_ := set $c "store" (include "keystile.storeConfig" . | fromYaml) -}}
{{- toYaml $c -}}
{{- end -}}

{{- define "keystile.listener" -}}
{{- if .tls.existingSecret -}}
{{- $files := dict "cert_file" (printf "/etc/keystile/tls/%s/tls.crt" .folder) "key_file" (printf "/etc/keystile/tls/%s/tls.key" .folder) -}}
{{- if .tls.clientCa -}}{{- $_ := set $files "client_ca_file" (printf "/etc/keystile/tls/%s/ca.crt" .folder) -}}{{- end -}}
{{- if .tls.clientSans -}}{{- $_ := set $files "client_sans" .tls.clientSans -}}{{- end -}}
{{- $_ := set .section "tls" $files -}}
{{- else -}}
{{- $_ := set .section "insecure" true -}}
{{- end -}}
{{- end -}}

{{- define "keystile.storeConfig" -}}
{{- $v := .root.Values -}}
{{- $store := deepCopy ($v.config.store | default dict) -}}
{{- if eq .role "maintenance" -}}
{{- $store = dict "embedded" (dict "path" "/var/lib/keystile-idle/idle.redb") -}}
{{- else if include "keystile.embedded" .root -}}
{{- $_ := set $store "embedded" (dict "path" "/var/lib/keystile/keystile.redb") -}}
{{- else -}}
{{- $side := ternary $v.redis.controlPlane $v.redis.checker (eq .role "control-plane") -}}
{{- with $side.username -}}{{- $_ := set $store.redis "username" . -}}{{- end -}}
{{- if $side.existingSecret -}}
{{- $_ := set $store.redis "password_file" "/etc/keystile/redis/password" -}}
{{- end -}}
{{- if $v.redis.tls.existingSecret -}}
{{- $_ := set $store.redis "ca_file" "/etc/keystile/redis-tls/ca.crt" -}}
{{- if $v.redis.tls.clientCertificate -}}
{{- $_ := set $store.redis "cert_file" "/etc/keystile/redis-tls/tls.crt" -}}
{{- $_ := set $store.redis "key_file" "/etc/keystile/redis-tls/tls.key" -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- toYaml $store -}}
{{- end -}}
