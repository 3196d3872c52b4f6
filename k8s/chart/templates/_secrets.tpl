{{/* Which Secrets there are, what they are called, and the runtime configuration that one of them holds. */}}

{{/* Arguments: list root key, where key is one of `secrets.names`. */}}
{{- define "gristmill.secretName" -}}
{{- $root := index . 0 -}}{{- $key := index . 1 -}}
{{- default (printf "%s-%s" (include "gristmill.fullname" $root) (kebabcase $key)) (get $root.Values.secrets.names $key) -}}
{{- end }}

{{/* The Secrets that workloads refer to. JSON: key to list of its keys. */}}
{{- define "gristmill.neededSecrets" -}}
{{- $out := dict -}}
{{- $workloads := include "gristmill.workloads" . | fromJson -}}
{{- range $name, $w := $workloads -}}
{{- if or $w.uses.stores $w.uses.sql -}}{{- $_ := set $out "runtimeConfig" (list "runtime-config.toml") -}}{{- end -}}
{{- if $w.uses.queues -}}{{- $_ := set $out "producer" (list "aws_access_key_id" "aws_secret_access_key") -}}{{- end -}}
{{- if and (eq $w.kind "worker") (eq $.Values.aws.consumerCredentials "secret") -}}
{{- $_ := set $out "consumer" (list "aws_access_key_id" "aws_secret_access_key") -}}
{{- end -}}
{{- if and $w.uses.sql (eq $.Values.database.type "postgresql") -}}{{- $_ := set $out "database" (list "database_url") -}}{{- end -}}
{{- if and $w.uses.bucket $.Values.bucket.name -}}{{- $_ := set $out "bucket" (list "s3_access_key_id" "s3_secret_access_key") -}}{{- end -}}
{{- end -}}
{{- if .Values.redis.enabled -}}{{- $_ := set $out "redis" (list "password") -}}{{- end -}}
{{- if .Values.postgresql.enabled -}}{{- $_ := set $out "postgresql" (list "password") -}}{{- end -}}
{{- toJson $out -}}
{{- end }}

{{/* A password of a Secret of ours that is there, else a new one. Arguments: list root key. */}}
{{- define "gristmill.password" -}}
{{- $root := index . 0 -}}
{{- $there := lookup "v1" "Secret" $root.Release.Namespace (include "gristmill.secretName" .) -}}
{{- if and $there $there.data (hasKey $there.data "password") -}}
{{- get $there.data "password" | b64dec -}}
{{- else -}}
{{- randAlphaNum 32 -}}
{{- end -}}
{{- end }}

{{/* One file for SpinApps and shims: a backend for each label. Spin takes no variables here, so the password
     is in it. SQL labels of PostgreSQL stand for scratch files that nobody opens. Arguments: list root password. */}}
{{- define "gristmill.runtimeConfig" -}}
{{- $root := index . 0 -}}{{- $password := index . 1 -}}
{{- range $label, $store := $root.Values.stores }}
[key_value_store.{{ $label }}]
{{- if eq $store.type "redis" }}
type = "redis"
url = "{{ ternary "rediss" "redis" (and $root.Values.redis.tls (not $root.Values.redis.enabled)) }}://{{ with $password }}:{{ . }}@{{ end }}{{ include "gristmill.redisHost" $root }}:{{ include "gristmill.redisPort" $root }}/{{ int64 (default 0 $store.database) }}"
{{- else if eq $store.type "dynamodb" }}
type = "aws_dynamo"
region = "{{ $root.Values.aws.region }}"
table = "{{ $store.table }}"
consistent_read = true
{{- else }}
type = "spin"
path = "/stores/{{ $label }}/{{ $label }}.db"
{{- end }}
{{ end }}
{{- range $root.Values.database.labels }}
[sqlite_database.{{ . }}]
type = "spin"
path = "{{ ternary "/state" (printf "/stores/%s" .) (eq $root.Values.database.type "postgresql") }}/{{ . }}.db"
{{ end }}
{{- end }}

{{- define "gristmill.databaseUrl" -}}
{{- $root := index . 0 -}}
{{- printf "postgres://%s:%s@%s:%s/%s?sslmode=%s" (index . 1) (index . 2) (include "gristmill.databaseHost" $root) (include "gristmill.databasePort" $root) $root.Values.postgresql.database (ternary "disable" $root.Values.postgresql.sslmode $root.Values.postgresql.enabled) -}}
{{- end }}
