{{/* What the schema cannot say. Every sentence says what to do. */}}
{{- define "keystile.checks" -}}
{{- $v := .Values -}}
{{- $store := $v.config.store | default dict -}}
{{- if include "keystile.embedded" . -}}
{{- if hasKey $store "redis" -}}
{{- fail "config.store has a section redis, and its kind is embedded: set config.store.kind to redis, or remove config.store.redis" -}}
{{- end -}}
{{- if gt (int $v.controlPlane.replicas) 1 -}}
{{- fail (printf "controlPlane.replicas is %d, and an embedded store belongs to one process: leave it at 1, or move to Redis (config.store.kind: redis)" (int $v.controlPlane.replicas)) -}}
{{- end -}}
{{- if $v.checker.hpa.enabled -}}
{{- fail "checker.hpa.enabled is true, and an embedded store belongs to one process: switch it off, or move to Redis (config.store.kind: redis)" -}}
{{- end -}}
{{- else -}}
{{- if hasKey $store "embedded" -}}
{{- fail "config.store has a section embedded, and its kind is redis: remove config.store.embedded, or set config.store.kind to embedded" -}}
{{- end -}}
{{- $redis := $store.redis | default dict -}}
{{- if not (or $redis.url $redis.nodes) -}}
{{- fail "config.store.kind is redis and its address is missing: set config.store.redis.url to redis://host:port (rediss:// for TLS), or config.store.redis.nodes" -}}
{{- end -}}
{{- if $v.controlPlane.maintenance -}}
{{- fail "controlPlane.maintenance is for the embedded store: with Redis run `keystile bootstrap` and `keystile store check` beside the running control plane, by kubectl exec" -}}
{{- end -}}
{{- end -}}
{{- if not (or $v.keyring.generate $v.keyring.existingDataSecret) -}}
{{- fail "keyring.generate is false and keyring.existingDataSecret is missing: make the keyrings (`keystile keyring init --dir keys`), put data.keyring into a Secret and name it there, or set keyring.generate to true" -}}
{{- end -}}
{{- if and (include "keystile.vault" .) (not (or $v.keyring.generate $v.keyring.existingVaultSecret)) -}}
{{- fail "keyring.generate is false and keyring.existingVaultSecret is missing: name a Secret with vault.keyring there, or keep no tokens (config.tokens.secret_retention: none)" -}}
{{- end -}}
{{- if and (not $v.keyring.existingDataSecret) $v.keyring.existingVaultSecret -}}
{{- fail "keyring.existingVaultSecret is set and keyring.existingDataSecret is not: the two are made together, so name both, or neither" -}}
{{- end -}}
{{- if and $v.keyring.existingDataSecret (include "keystile.vault" .) (not $v.keyring.existingVaultSecret) -}}
{{- fail "keyring.existingDataSecret is set and keyring.existingVaultSecret is not: the two are made together, so name both, or neither" -}}
{{- end -}}
{{- range $name := list "controlPlane" "checker" -}}
{{- $side := index $v.redis $name -}}
{{- if and $side.username (not $side.existingSecret) -}}
{{- fail (printf "redis.%s.username is set and redis.%s.existingSecret is missing: put the user's password into a Secret and name it there" $name $name) -}}
{{- end -}}
{{- $tls := (index $v $name).tls -}}
{{- if and (or $tls.clientCa $tls.clientSans) (not $tls.existingSecret) -}}
{{- fail (printf "%s.tls asks for client certificates and %s.tls.existingSecret is missing: name a Secret with tls.crt, tls.key and ca.crt there" $name $name) -}}
{{- end -}}
{{- if and $tls.clientSans (not $tls.clientCa) -}}
{{- fail (printf "%s.tls.clientSans is set and %s.tls.clientCa is false: names are of certificates, so set clientCa to true and put ca.crt into the Secret" $name $name) -}}
{{- end -}}
{{- end -}}
{{- if and $v.redis.tls.clientCertificate (not $v.redis.tls.existingSecret) -}}
{{- fail "redis.tls.clientCertificate is true and redis.tls.existingSecret is missing: name a Secret with ca.crt, tls.crt and tls.key there" -}}
{{- end -}}
{{- if and (or (($v.config.authz | default dict).signed_context) ) (not $v.keyring.existingSigningSecret) -}}
{{- fail "config.authz.signed_context is set and keyring.existingSigningSecret is missing: make the keyring (`keystile keyring init --dir keys --ring signing`), put signing.keyring into a Secret and name it there" -}}
{{- end -}}
{{- if and (eq $v.probes.type "grpc") $v.checker.tls.existingSecret -}}
{{- fail "probes.type is grpc and checker.tls.existingSecret is set: the kubelet speaks no TLS when it asks by gRPC, so say exec or http" -}}
{{- end -}}
{{- if $v.bootstrap.generate -}}
{{- if include "keystile.embedded" . -}}
{{- fail "bootstrap.generate is true, and an embedded store belongs to the process that serves: make the key under controlPlane.maintenance, or move to Redis (config.store.kind: redis)" -}}
{{- end -}}
{{- end -}}
{{- if $v.certManager.enabled -}}
{{- if not $v.certManager.issuerRef.name -}}
{{- fail "certManager.enabled is true and certManager.issuerRef.name is missing: name an Issuer of the namespace, or a ClusterIssuer with issuerRef.kind" -}}
{{- end -}}
{{- if not (or $v.checker.tls.existingSecret $v.controlPlane.tls.existingSecret) -}}
{{- fail "certManager.enabled is true and no listener has TLS: name the Secrets that cert-manager is to make in checker.tls.existingSecret and controlPlane.tls.existingSecret" -}}
{{- end -}}
{{- end -}}
{{- include "keystile.owned" . -}}
{{- end -}}

{{/* Fields of the config that hang on the chart's objects. */}}
{{- define "keystile.owned" -}}
{{- $c := .Values.config -}}
{{- if hasKey $c "keyring" -}}
{{- fail "config.keyring is set by the chart: name your Secrets in keyring.existingDataSecret, existingVaultSecret and existingSigningSecret" -}}
{{- end -}}
{{- range $section, $where := dict "authz" "checker.tls" "admin" "controlPlane.tls" "ops" "nothing" -}}
{{- range $field := list "listen" "tls" "insecure" "unix_socket" -}}
{{- if hasKey (index $c $section | default dict) $field -}}
{{- if eq $where "nothing" -}}
{{- fail (printf "config.%s.%s is set by the chart: remove it" $section $field) -}}
{{- end -}}
{{- fail (printf "config.%s.%s is set by the chart: remove it; TLS is set by %s" $section $field $where) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- $store := $c.store | default dict -}}
{{- if hasKey ($store.embedded | default dict) "path" -}}
{{- fail "config.store.embedded.path is set by the chart: remove it; the volume is set by controlPlane.persistence" -}}
{{- end -}}
{{- range $field := list "username" "password_file" "ca_file" "cert_file" "key_file" -}}
{{- if hasKey ($store.redis | default dict) $field -}}
{{- fail (printf "config.store.redis.%s is set by the chart: remove it; users, passwords and certificates are set by redis.controlPlane, redis.checker and redis.tls" $field) -}}
{{- end -}}
{{- end -}}
{{- end -}}
