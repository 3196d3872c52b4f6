{{/* Names, labels, and what each workload is and reaches. Everything else asks here. */}}

{{- define "gristmill.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 36 | trimSuffix "-" -}}
{{- end }}

{{/* 36 characters leave room for what comes behind: SpinKube's and KEDA's limits are in the refusals. */}}
{{- define "gristmill.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 36 | trimSuffix "-" -}}
{{- else -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- if contains $name .Release.Name -}}
{{- .Release.Name | trunc 36 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 36 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}
{{- end }}

{{/* The SpinAppExecutor of the SpinApps. */}}
{{- define "gristmill.executorName" -}}
{{- default (include "gristmill.fullname" .) .Values.spinkube.executor.name -}}
{{- end }}

{{/* What selects: never changes over upgrades. Arguments: dict root workload. */}}
{{- define "gristmill.selector" -}}
app.kubernetes.io/name: {{ include "gristmill.name" .root }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
{{- with .workload }}
app.kubernetes.io/component: {{ . }}
{{- end }}
{{- end }}

{{- define "gristmill.labels" -}}
{{ include "gristmill.selector" . }}
app.kubernetes.io/part-of: {{ include "gristmill.name" .root }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" }}
{{- with .root.Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* Arguments: list root image. A digest replaces the tag. */}}
{{- define "gristmill.image" -}}
{{- $root := index . 0 -}}{{- $image := index . 1 -}}
{{- if $image.digest -}}
{{- printf "%s@%s" $image.repository $image.digest -}}
{{- else -}}
{{- printf "%s:%s" $image.repository (default $root.Chart.AppVersion $image.tag) -}}
{{- end -}}
{{- end }}

{{/* One map over another, also where a value is false, 0 or empty. Arguments: list base over. JSON. */}}
{{- define "gristmill.merge" -}}
{{- $base := deepCopy (index . 0) -}}
{{- range $key, $value := index . 1 -}}
{{- if and (kindIs "map" $value) (kindIs "map" (get $base $key)) (not (has $key (list "podAnnotations" "podLabels" "serviceAnnotations" "serviceAccountAnnotations" "behavior"))) -}}
{{- $_ := set $base $key (include "gristmill.merge" (list (get $base $key) $value) | fromJson) -}}
{{- else -}}
{{- $_ := set $base $key $value -}}
{{- end -}}
{{- end -}}
{{- toJson $base -}}
{{- end }}

{{/* The services that are on, with their defaults. JSON: name to service. */}}
{{- define "gristmill.services" -}}
{{- $out := dict -}}
{{- range $name, $own := .Values.services -}}
{{- $all := include "gristmill.merge" (list $.Values.serviceDefaults ($own | default dict)) | fromJson -}}
{{- if $all.enabled -}}{{- $_ := set $out $name $all -}}{{- end -}}
{{- end -}}
{{- toJson $out -}}
{{- end }}

{{/* The queues that are consumed, with their defaults. JSON: name to queue. */}}
{{- define "gristmill.queues" -}}
{{- $out := dict -}}
{{- range $name, $own := .Values.queues -}}
{{- $all := include "gristmill.merge" (list $.Values.queueDefaults ($own | default dict)) | fromJson -}}
{{- if $all.enabled -}}{{- $_ := set $out $name $all -}}{{- end -}}
{{- end -}}
{{- toJson $out -}}
{{- end }}

{{/* Every workload that runs components. JSON: name to dict of kind (service, worker, cron), key, uses,
     min, max (replicas), spec. */}}
{{- define "gristmill.workloads" -}}
{{- $out := dict -}}
{{- $queues := include "gristmill.queues" . | fromJson -}}
{{- $forwarded := dict -}}
{{- range $name, $q := $queues -}}
{{- if eq $q.mode "forward" -}}{{- $_ := set $forwarded $q.forward.service $q -}}{{- end -}}
{{- end -}}
{{- range $name, $s := include "gristmill.services" . | fromJson -}}
{{- $min := $s.replicas -}}{{- $max := $s.replicas -}}{{- $scaler := "none" -}}
{{- if and (hasKey $forwarded $name) $.Values.keda.enabled -}}
{{- $q := get $forwarded $name -}}
{{- $min = $q.scaling.minReplicas -}}{{- $max = $q.scaling.maxReplicas -}}{{- $scaler = "keda" -}}
{{- else if $s.autoscaling.enabled -}}
{{- $min = $s.autoscaling.minReplicas -}}{{- $max = $s.autoscaling.maxReplicas -}}{{- $scaler = "hpa" -}}
{{- end -}}
{{- $_ := set $out $name (dict "kind" "service" "key" $name "uses" $s.uses "variables" $s.variables "min" $min "max" $max "scaler" $scaler "spec" $s) -}}
{{- end -}}
{{- range $name, $q := $queues -}}
{{- $min := $q.replicas -}}{{- $max := $q.replicas -}}{{- $scaler := "none" -}}
{{- if eq $q.mode "forward" -}}
{{- $min = $q.forward.replicas -}}{{- $max = $q.forward.replicas -}}
{{- else if $.Values.keda.enabled -}}
{{- $min = $q.scaling.minReplicas -}}{{- $max = $q.scaling.maxReplicas -}}{{- $scaler = "keda" -}}
{{- end -}}
{{- $uses := dict "queues" list "services" dict "stores" $q.uses.stores "sql" $q.uses.sql "bucket" $q.uses.bucket -}}
{{- $_ := set $out (printf "worker-%s" $name) (dict "kind" "worker" "key" $name "uses" $uses "variables" $q.variables "min" $min "max" $max "scaler" $scaler "spec" $q) -}}
{{- end -}}
{{- if .Values.cron.enabled -}}
{{- $uses := dict "queues" list "services" dict "stores" .Values.cron.uses.stores "sql" .Values.cron.uses.sql "bucket" .Values.cron.uses.bucket -}}
{{- $_ := set $out "cron" (dict "kind" "cron" "key" "cron" "uses" $uses "variables" .Values.cron.variables "min" 1 "max" 1 "scaler" "none" "spec" .Values.cron) -}}
{{- end -}}
{{- toJson $out -}}
{{- end }}

{{/* A name inside the cluster. Arguments: list root suffix. */}}
{{- define "gristmill.host" -}}
{{- $root := index . 0 -}}
{{- printf "%s-%s.%s.svc.%s" (include "gristmill.fullname" $root) (index . 1) $root.Release.Namespace $root.Values.clusterDomain -}}
{{- end }}

{{/* What comes behind the fullname in the name of a service's Service. Arguments: list root service. */}}
{{- define "gristmill.serviceSuffix" -}}
{{- $root := index . 0 -}}
{{- index . 1 }}{{ if and (eq $root.Values.http.runtime "spinkube") $root.Values.traffic.ownServices }}-web{{ end -}}
{{- end }}

{{- define "gristmill.queueServerOrigin" -}}
{{- printf "http://%s:9324" (include "gristmill.host" (list . "queue")) -}}
{{- end }}

{{- define "gristmill.sqsOrigin" -}}
{{- default (include "gristmill.queueServerOrigin" .) .Values.aws.sqsOrigin -}}
{{- end }}

{{/* Arguments: list root name queue. */}}
{{- define "gristmill.queueUrl" -}}
{{- $q := index . 2 -}}
{{- if $q.url -}}{{- $q.url -}}
{{- else -}}{{- printf "%s/000000000000/%s" (include "gristmill.queueServerOrigin" (index . 0)) (index . 1) -}}{{- end -}}
{{- end }}

{{- define "gristmill.deadLetterUrl" -}}
{{- $q := index . 2 -}}
{{- if $q.url -}}{{- $q.deadLetterUrl -}}
{{- else -}}{{- printf "%s/000000000000/%s-dlq" (include "gristmill.queueServerOrigin" (index . 0)) (index . 1) -}}{{- end -}}
{{- end }}

{{- define "gristmill.redisHost" -}}
{{- if .Values.redis.enabled -}}{{- include "gristmill.host" (list . "redis") -}}{{- else -}}{{- .Values.redis.host -}}{{- end -}}
{{- end }}

{{- define "gristmill.databaseHost" -}}
{{- if .Values.postgresql.enabled -}}{{- include "gristmill.host" (list . "postgresql") -}}{{- else -}}{{- .Values.postgresql.host -}}{{- end -}}
{{- end }}

{{- define "gristmill.databasePort" -}}
{{- if .Values.postgresql.enabled -}}5432{{- else -}}{{- int64 .Values.postgresql.port -}}{{- end -}}
{{- end }}

{{- define "gristmill.redisPort" -}}
{{- if .Values.redis.enabled -}}6379{{- else -}}{{- int64 .Values.redis.port -}}{{- end -}}
{{- end }}

{{/* Where the site is, for cookies and requests by cookie. */}}
{{- define "gristmill.publicOrigin" -}}
{{- if .Values.variables.public_origin -}}{{- .Values.variables.public_origin -}}
{{- else if and .Values.ingress.enabled .Values.ingress.host -}}
{{- printf "%s://%s" (ternary "https" "http" .Values.ingress.tls.enabled) .Values.ingress.host -}}
{{- end -}}
{{- end }}

{{/* Variables without a secret, all of them. JSON: name to value. */}}
{{- define "gristmill.plainVariables" -}}
{{- $out := dict "sqs_origin" (include "gristmill.sqsOrigin" .) "aws_region" .Values.aws.region -}}
{{- range $name, $q := include "gristmill.queues" . | fromJson -}}
{{- $_ := set $out $q.urlVariable (include "gristmill.queueUrl" (list $ $name $q)) -}}
{{- if eq $q.mode "forward" -}}
{{- $_ := set $out $q.forward.variable (printf "http://%s%s" (include "gristmill.host" (list $ (include "gristmill.serviceSuffix" (list $ $q.forward.service)))) $q.forward.path) -}}
{{- end -}}
{{- end -}}
{{- range $name, $s := include "gristmill.services" . | fromJson -}}
{{- range $callee, $variable := $s.uses.services -}}
{{- $_ := set $out $variable (printf "http://%s" (include "gristmill.host" (list $ (include "gristmill.serviceSuffix" (list $ $callee))))) -}}
{{- end -}}
{{- end -}}
{{- if eq .Values.database.type "postgresql" -}}
{{- $_ := set $out "database_origin" (printf "postgres://%s:%s" (include "gristmill.databaseHost" .) (include "gristmill.databasePort" .)) -}}
{{- end -}}
{{- if .Values.bucket.name -}}
{{- $_ := set $out "images_bucket" .Values.bucket.name -}}
{{- $_ := set $out "s3_origin" .Values.bucket.origin -}}
{{- $_ := set $out "s3_region" .Values.bucket.region -}}
{{- end -}}
{{- range $name, $value := .Values.variables -}}
{{- if hasKey $out $name -}}
{{- fail (printf "variables.%s = %q: it follows from other values, and is %q; take it out" $name $value (get $out $name)) -}}
{{- end -}}
{{- $_ := set $out $name $value -}}
{{- end -}}
{{- $_ := set $out "public_origin" (include "gristmill.publicOrigin" .) -}}
{{- toJson $out -}}
{{- end }}

{{/* The variables that one workload gets. Arguments: list root workload. JSON: name to dict of secret
     (empty: the ConfigMap). Sorted by name, as maps are. */}}
{{- define "gristmill.variablesOf" -}}
{{- $root := index . 0 -}}{{- $w := index . 1 -}}
{{- $out := dict -}}
{{- $queues := include "gristmill.queues" $root | fromJson -}}
{{- if $w.uses.queues -}}
{{- range list "sqs_origin" "aws_region" -}}{{- $_ := set $out . (dict "secret" "") -}}{{- end -}}
{{- range list "aws_access_key_id" "aws_secret_access_key" -}}{{- $_ := set $out . (dict "secret" "producer") -}}{{- end -}}
{{- range $w.uses.queues -}}{{- $_ := set $out (get $queues .).urlVariable (dict "secret" "") -}}{{- end -}}
{{- end -}}
{{- if eq $w.kind "worker" -}}
{{- $_ := set $out $w.spec.urlVariable (dict "secret" "") -}}
{{- if eq $w.spec.mode "forward" -}}{{- $_ := set $out $w.spec.forward.variable (dict "secret" "") -}}{{- end -}}
{{- end -}}
{{- range $callee, $variable := $w.uses.services -}}{{- $_ := set $out $variable (dict "secret" "") -}}{{- end -}}
{{- if and $w.uses.sql (eq $root.Values.database.type "postgresql") -}}
{{- $_ := set $out "database_origin" (dict "secret" "") -}}
{{- $_ := set $out "database_url" (dict "secret" "database") -}}
{{- end -}}
{{- if and $w.uses.bucket $root.Values.bucket.name -}}
{{- range list "images_bucket" "s3_origin" "s3_region" -}}{{- $_ := set $out . (dict "secret" "") -}}{{- end -}}
{{- range list "s3_access_key_id" "s3_secret_access_key" -}}{{- $_ := set $out . (dict "secret" "bucket") -}}{{- end -}}
{{- end -}}
{{- range $w.variables -}}{{- $_ := set $out . (dict "secret" "") -}}{{- end -}}
{{- toJson $out -}}
{{- end }}

{{/* What a workload reaches by the network. Arguments: list root workload. JSON list of queue, redis,
     database, outside, and service-NAME. */}}
{{- define "gristmill.reaches" -}}
{{- $root := index . 0 -}}{{- $w := index . 1 -}}
{{- $out := list -}}
{{- $queues := include "gristmill.queues" $root | fromJson -}}
{{- $asked := concat $w.uses.queues (ternary (list $w.key) list (eq $w.kind "worker")) -}}
{{- range $asked -}}
{{- if (get $queues .).url -}}{{- $out = append $out "outside" -}}{{- else -}}{{- $out = append $out "queue" -}}{{- end -}}
{{- end -}}
{{- range $w.uses.stores -}}
{{- $store := get $root.Values.stores . -}}
{{- if eq $store.type "redis" -}}{{- $out = append $out "redis" -}}{{- end -}}
{{- if eq $store.type "dynamodb" -}}{{- $out = append $out "outside" -}}{{- end -}}
{{- end -}}
{{- if and $w.uses.sql (eq $root.Values.database.type "postgresql") -}}{{- $out = append $out "database" -}}{{- end -}}
{{- if and $w.uses.bucket $root.Values.bucket.name -}}{{- $out = append $out "outside" -}}{{- end -}}
{{- if and (hasPrefix "oci://" $root.Values.app.from) (or (ne $w.kind "service") (eq $root.Values.http.runtime "shim")) -}}{{- $out = append $out "outside" -}}{{- end -}}
{{- range $callee, $_ := $w.uses.services -}}{{- $out = append $out (printf "service-%s" $callee) -}}{{- end -}}
{{- if and (eq $w.kind "worker") (eq $w.spec.mode "forward") -}}{{- $out = append $out (printf "service-%s" $w.spec.forward.service) -}}{{- end -}}
{{- toJson ($out | uniq | sortAlpha) -}}
{{- end }}

{{/* Labels of pods: who they are, and for network policies what they reach. No versions: a new
     version of the chart alone restarts nothing. Arguments: dict root name w. */}}
{{- define "gristmill.podLabels" -}}
{{ include "gristmill.selector" (dict "root" .root "workload" .name) }}
gristmill/role: {{ .w.kind }}
{{- range include "gristmill.reaches" (list .root .w) | fromJsonArray }}
gristmill/reaches-{{ . }}: "true"
{{- end }}
{{- with .w.spec.podLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* Changes when what pods read at start changes; secrets are not in it: k8s/README.md, rotation. */}}
{{- define "gristmill.podAnnotations" -}}
gristmill/configuration: {{ list (include "gristmill.plainVariables" .root) (include "gristmill.runtimeConfig" (list .root "")) (include "gristmill.databaseUrl" (list .root .root.Values.postgresql.username "")) .root.Values.secrets.names .root.Values.authorities | toJson | sha256sum | trunc 16 | quote }}
{{- with .w.spec.podAnnotations }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* Arguments: list root workload-name. */}}
{{- define "gristmill.serviceAccountName" -}}
{{- $root := index . 0 -}}
{{- if $root.Values.serviceAccounts.create -}}
{{- printf "%s-%s" (include "gristmill.fullname" $root) (index . 1) -}}
{{- else -}}
{{- $root.Values.serviceAccounts.name -}}
{{- end -}}
{{- end }}

{{/* The port of a service's pods. */}}
{{- define "gristmill.httpPort" -}}
{{- if eq .Values.http.runtime "spinkube" -}}80{{- else -}}{{- int64 .Values.shim.httpPort -}}{{- end -}}
{{- end }}

{{/* Labels of embedded type among what a workload uses. Arguments: list root workload. JSON list. */}}
{{- define "gristmill.embeddedOf" -}}
{{- $root := index . 0 -}}{{- $w := index . 1 -}}
{{- $out := list -}}
{{- range $w.uses.stores -}}{{- if eq (get $root.Values.stores .).type "embedded" -}}{{- $out = append $out . -}}{{- end -}}{{- end -}}
{{- if eq $root.Values.database.type "embedded" -}}{{- $out = concat $out $w.uses.sql -}}{{- end -}}
{{- toJson $out -}}
{{- end }}
