{{/* What the schema cannot see: each refusal says what is wrong, where, and with which value.
     Every template asks first, as Helm renders them in no order. */}}

{{- define "gristmill.refusals" -}}
{{- $services := include "gristmill.services" . | fromJson -}}
{{- $queues := include "gristmill.queues" . | fromJson -}}
{{- $workloads := include "gristmill.workloads" . | fromJson -}}
{{- $components := dict -}}{{- $paths := dict -}}

{{- range $name, $_ := .Values.services -}}
{{- if or (has $name (list "cron" "queue" "redis" "postgresql" "metrics" "variables")) (hasPrefix "worker-" $name) -}}
{{- fail (printf "services.%s: the name %q is taken by another workload of the chart; choose another" $name $name) -}}
{{- end -}}
{{- end -}}

{{- range $name, $s := $services -}}
{{- if not $s.components -}}{{- fail (printf "services.%s.components is empty: name the components of spin.toml that it runs" $name) -}}{{- end -}}
{{- if and $s.autoscaling.enabled (gt (int64 $s.autoscaling.minReplicas) (int64 $s.autoscaling.maxReplicas)) -}}
{{- fail (printf "services.%s.autoscaling: minReplicas = %d is above maxReplicas = %d" $name (int64 $s.autoscaling.minReplicas) (int64 $s.autoscaling.maxReplicas)) -}}
{{- end -}}
{{- if and $s.autoscaling.enabled (not (dig "requests" "cpu" "" $s.resources)) -}}
{{- fail (printf "services.%s.resources.requests.cpu is missing: its HorizontalPodAutoscaler divides by it" $name) -}}
{{- end -}}
{{- if and (eq $.Values.http.runtime "shim") (lt (int64 $s.gracePeriodSeconds) (add (int64 $.Values.shim.requestTimeoutSeconds) 3)) -}}
{{- fail (printf "services.%s.gracePeriodSeconds = %d is below shim.requestTimeoutSeconds = %d and 3 s: a roll-out would cut requests off" $name (int64 $s.gracePeriodSeconds) (int64 $.Values.shim.requestTimeoutSeconds)) -}}
{{- end -}}
{{- range $s.components -}}
{{- if hasKey $components . -}}{{- fail (printf "services.%s.components: %q is already in %s" $name . (get $components .)) -}}{{- end -}}
{{- $_ := set $components . (printf "services.%s" $name) -}}
{{- end -}}
{{- range $s.paths -}}
{{- $path := printf "%s %s" .type .path -}}
{{- if hasKey $paths $path -}}{{- fail (printf "services.%s.paths: %s leads to services.%s already" $name $path (get $paths $path)) -}}{{- end -}}
{{- $_ := set $paths $path $name -}}
{{- end -}}
{{- range $s.uses.queues -}}
{{- if not (hasKey $queues .) -}}{{- fail (printf "services.%s.uses.queues: there is no enabled queue %q in `queues`" $name .) -}}{{- end -}}
{{- end -}}
{{- range $callee, $variable := $s.uses.services -}}
{{- if not (hasKey $services $callee) -}}{{- fail (printf "services.%s.uses.services: there is no enabled service %q in `services`" $name $callee) -}}{{- end -}}
{{- end -}}
{{- end -}}

{{- $fullname := include "gristmill.fullname" . -}}
{{- range $name, $w := $workloads -}}
{{- $full := printf "%s-%s" $fullname $name -}}
{{- if and (eq $w.kind "service") (eq $.Values.http.runtime "spinkube") (gt (len $full) 52) -}}
{{- fail (printf "services.%s: the SpinApp's name %q has %d characters, and SpinKube's label app.NAME.status lets 52; shorten the service or fullnameOverride" $name $full (len $full)) -}}
{{- end -}}
{{- if and (eq $w.kind "worker") $.Values.keda.enabled (gt (len $full) 54) -}}
{{- fail (printf "queues.%s: the ScaledObject's name %q has %d characters, and KEDA's keda-hpa-NAME lets 54; shorten the queue or fullnameOverride" $w.key $full (len $full)) -}}
{{- end -}}
{{- end -}}

{{- $variables := dict -}}{{- $urls := dict -}}{{- $targets := dict -}}
{{- range $name, $q := $queues -}}
{{- if not $q.component -}}{{- fail (printf "queues.%s.component is empty: name the component of [[trigger.sqs]] in spin.toml" $name) -}}{{- end -}}
{{- if not $q.urlVariable -}}{{- fail (printf "queues.%s.urlVariable is empty: name the variable of spin.toml that holds the queue's URL" $name) -}}{{- end -}}
{{- if hasKey $components $q.component -}}
{{- fail (printf "queues.%s.component = %q is in %s too: in a SpinApp, the trigger of Spin's own shim would consume the queue; give the consumer a component id of its own" $name $q.component (get $components $q.component)) -}}
{{- end -}}
{{- $_ := set $components $q.component (printf "queues.%s" $name) -}}
{{- if hasKey $variables $q.urlVariable -}}{{- fail (printf "queues.%s.urlVariable = %q is that of queues.%s, too" $name $q.urlVariable (get $variables $q.urlVariable)) -}}{{- end -}}
{{- $_ := set $variables $q.urlVariable $name -}}
{{- if and $q.url (not $q.deadLetterUrl) -}}
{{- fail (printf "queues.%s.deadLetterUrl is empty, and url = %q: a queue without a dead-letter queue retries until its messages expire" $name $q.url) -}}
{{- end -}}
{{- if and $q.url (eq $q.url $q.deadLetterUrl) -}}{{- fail (printf "queues.%s.deadLetterUrl = %q is the queue itself" $name $q.url) -}}{{- end -}}
{{- if and (not $q.url) $q.deadLetterUrl -}}{{- fail (printf "queues.%s.deadLetterUrl = %q without url: the embedded queue has %s-dlq" $name $q.deadLetterUrl $name) -}}{{- end -}}
{{- if and (not $q.url) (not $.Values.queueServer.enabled) -}}
{{- fail (printf "queues.%s.url is empty, and queueServer.enabled is false: name the queue's URL" $name) -}}
{{- end -}}
{{- $url := include "gristmill.queueUrl" (list $ $name $q) -}}
{{- if hasKey $urls $url -}}{{- fail (printf "queues.%s.url = %q is that of queues.%s, too" $name $url (get $urls $url)) -}}{{- end -}}
{{- $_ := set $urls $url $name -}}
{{- if not (hasPrefix (printf "%s/" (include "gristmill.sqsOrigin" $)) $url) -}}
{{- fail (printf "queues.%s.url = %q is not at aws.sqsOrigin = %q, where services send to" $name $url (include "gristmill.sqsOrigin" $)) -}}
{{- end -}}
{{- if gt (int64 $q.scaling.minReplicas) (int64 $q.scaling.maxReplicas) -}}
{{- fail (printf "queues.%s.scaling: minReplicas = %d is above maxReplicas = %d" $name (int64 $q.scaling.minReplicas) (int64 $q.scaling.maxReplicas)) -}}
{{- end -}}
{{- if gt (int64 $q.scaling.fallback.replicas) (int64 $q.scaling.maxReplicas) -}}
{{- fail (printf "queues.%s.scaling.fallback.replicas = %d is above maxReplicas = %d" $name (int64 $q.scaling.fallback.replicas) (int64 $q.scaling.maxReplicas)) -}}
{{- end -}}
{{- if eq $q.mode "forward" -}}
{{- if not (hasKey $services $q.forward.service) -}}{{- fail (printf "queues.%s.forward.service = %q: there is no such enabled service" $name $q.forward.service) -}}{{- end -}}
{{- if not $q.forward.variable -}}{{- fail (printf "queues.%s.forward.variable is empty: name the variable of `forward_to` in spin.toml" $name) -}}{{- end -}}
{{- if lt (int64 $q.scaling.minReplicas) 1 -}}
{{- fail (printf "queues.%s.scaling.minReplicas = %d with mode = \"forward\": messages that nobody answers use up their receives; set 1 or more" $name (int64 $q.scaling.minReplicas)) -}}
{{- end -}}
{{- if hasKey $targets $q.forward.service -}}{{- fail (printf "queues.%s.forward.service = %q is scaled for queues.%s already" $name $q.forward.service (get $targets $q.forward.service)) -}}{{- end -}}
{{- $_ := set $targets $q.forward.service $name -}}
{{- end -}}
{{- end -}}

{{- $plain := include "gristmill.plainVariables" . | fromJson -}}
{{- $users := dict -}}
{{- range $name, $w := $workloads -}}
{{- $where := ternary "cron" (printf "%ss.%s" (ternary "service" "queue" (eq $w.kind "service")) $w.key) (eq $w.kind "cron") -}}
{{- range $w.uses.stores -}}
{{- if not (hasKey $.Values.stores .) -}}{{- fail (printf "%s.uses.stores: there is no %q in `stores`" $where .) -}}{{- end -}}
{{- end -}}
{{- range $w.uses.sql -}}
{{- if not (has . $.Values.database.labels) -}}{{- fail (printf "%s.uses.sql: there is no %q in database.labels" $where .) -}}{{- end -}}
{{- end -}}
{{- range $w.variables -}}
{{- if not (hasKey $plain .) -}}{{- fail (printf "%s.variables: there is no %q in `variables`" $where .) -}}{{- end -}}
{{- end -}}
{{- range include "gristmill.embeddedOf" (list $ $w) | fromJsonArray -}}
{{- $_ := set $users . (append (default list (get $users .)) (dict "where" $where "max" $w.max "kind" $w.kind)) -}}
{{- end -}}
{{- end -}}
{{- range $label, $by := $users -}}
{{- $place := ternary (printf "stores.%s.type" $label) "database.type" (hasKey $.Values.stores $label) -}}
{{- if gt (len $by) 1 -}}
{{- $who := list -}}{{- range $by -}}{{- $who = append $who .where -}}{{- end -}}
{{- fail (printf "%s = \"embedded\": an SQLite file serves one pod, and %q is used by %s; choose a server" $place $label (join ", " $who)) -}}
{{- end -}}
{{- $one := first $by -}}
{{- if gt (int64 $one.max) 1 -}}
{{- fail (printf "%s = \"embedded\": an SQLite file serves one pod, and %s may have %d replicas; choose a server, or set them to 1" $place $one.where (int64 $one.max)) -}}
{{- end -}}
{{- if and (eq $one.kind "service") (eq $.Values.http.runtime "spinkube") -}}
{{- fail (printf "%s = \"embedded\": %s is a SpinApp, whose updates run two pods for a while; choose a server, or http.runtime = \"shim\"" $place $one.where) -}}
{{- end -}}
{{- end -}}

{{- range $label, $store := .Values.stores -}}
{{- if eq $store.type "dynamodb" -}}
{{- if eq $label "images" -}}{{- fail "stores.images.type = \"dynamodb\": an item has 400 KiB at most, an image 8 MiB, and `gristmill` refuses to start, with a bucket, too; set \"redis\"" -}}{{- end -}}
{{- if not $store.table -}}{{- fail (printf "stores.%s.table is empty: name the DynamoDB table" $label) -}}{{- end -}}
{{- if eq $.Values.aws.consumerCredentials "secret" -}}
{{- fail (printf "stores.%s.type = \"dynamodb\" with aws.consumerCredentials = \"secret\": a SpinApp can take no keys for it; set \"podIdentity\"" $label) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- $redisLabels := dict -}}
{{- range $label, $store := .Values.stores -}}
{{- if eq $store.type "redis" -}}
{{- $number := printf "%d" (int64 (default 0 $store.database)) -}}
{{- if hasKey $redisLabels $number -}}
{{- fail (printf "stores.%s.database = %s is that of stores.%s, too: labels are no namespace in Redis" $label $number (get $redisLabels $number)) -}}
{{- end -}}
{{- $_ := set $redisLabels $number $label -}}
{{- end -}}
{{- end -}}
{{- if and $redisLabels (not .Values.redis.enabled) (not .Values.redis.host) -}}
{{- fail (printf "redis.host is empty, redis.enabled is false, and stores.%s.type = \"redis\": name the server" (first (values $redisLabels | sortAlpha))) -}}
{{- end -}}
{{- if and .Values.redis.enabled .Values.redis.host -}}{{- fail (printf "redis.host = %q with redis.enabled = true: one of both" .Values.redis.host) -}}{{- end -}}
{{- if and (eq .Values.database.type "postgresql") (not .Values.postgresql.enabled) (not .Values.postgresql.host) -}}
{{- fail "postgresql.host is empty, postgresql.enabled is false, and database.type = \"postgresql\": name the server" -}}
{{- end -}}
{{- if and .Values.postgresql.enabled .Values.postgresql.host -}}{{- fail (printf "postgresql.host = %q with postgresql.enabled = true: one of both" .Values.postgresql.host) -}}{{- end -}}
{{- if and .Values.postgresql.enabled (ne .Values.postgresql.sslmode "disable") -}}{{- fail (printf "postgresql.sslmode = %q with postgresql.enabled = true: the server here has no certificate; set \"disable\"" .Values.postgresql.sslmode) -}}{{- end -}}
{{- if and .Values.bucket.name (not .Values.bucket.origin) -}}{{- fail (printf "bucket.origin is empty, and bucket.name = %q: name scheme, host and port" .Values.bucket.name) -}}{{- end -}}
{{- if and .Values.queueServer.enabled .Values.aws.sqsOrigin -}}
{{- fail (printf "aws.sqsOrigin = %q with queueServer.enabled = true: services would send where no consumer looks" .Values.aws.sqsOrigin) -}}
{{- end -}}
{{- if and .Values.queueServer.enabled (eq .Values.aws.consumerCredentials "podIdentity") -}}
{{- fail "aws.consumerCredentials = \"podIdentity\" with queueServer.enabled = true: the embedded queue needs no identity, and the credential chain would wait for one; set \"secret\"" -}}
{{- end -}}

{{- $executor := .Values.spinkube.executor -}}
{{- if and (eq .Values.http.runtime "spinkube") (not $executor.create) -}}
{{- if not $executor.name -}}{{- fail "spinkube.executor.name is empty, and spinkube.executor.create is false: name the SpinAppExecutor of this namespace" -}}{{- end -}}
{{- if .Values.authorities.secret -}}{{- fail (printf "authorities.secret = %q with spinkube.executor.create = false: SpinApps trust what their executor names; create it here" .Values.authorities.secret) -}}{{- end -}}
{{- if $executor.otlpEndpoint -}}{{- fail (printf "spinkube.executor.otlpEndpoint = %q with spinkube.executor.create = false: it is that of a created one" $executor.otlpEndpoint) -}}{{- end -}}
{{- end -}}
{{- if and (not .Values.serviceAccounts.create) (not .Values.serviceAccounts.name) -}}
{{- fail "serviceAccounts.name is empty, and serviceAccounts.create is false: name one that is there" -}}
{{- end -}}
{{- if and .Values.monitoring.podMonitor.enabled .Values.monitoring.serviceMonitor.enabled -}}
{{- fail "monitoring.podMonitor.enabled and monitoring.serviceMonitor.enabled are both true: every pod would be scraped twice" -}}
{{- end -}}

{{- $i := .Values.ingress -}}
{{- if $i.enabled -}}
{{- if and $i.tls.enabled (not $i.host) -}}{{- fail "ingress.host is empty, and ingress.tls.enabled is true: a certificate needs a name" -}}{{- end -}}
{{- if and $i.externalDns.enabled (not $i.host) -}}{{- fail "ingress.host is empty, and ingress.externalDns.enabled is true: name what is to be resolved" -}}{{- end -}}
{{- if and (not $i.tls.enabled) (ne $i.tls.issuer "none") -}}{{- fail (printf "ingress.tls.issuer = %q with ingress.tls.enabled = false" $i.tls.issuer) -}}{{- end -}}
{{- if and (eq $i.tls.issuer "existing") (not $i.tls.issuerRef.name) -}}{{- fail "ingress.tls.issuerRef.name is empty, and ingress.tls.issuer = \"existing\"" -}}{{- end -}}
{{- if eq $i.tls.issuer "acme" -}}
{{- if not $i.tls.acme.server -}}{{- fail "ingress.tls.acme.server is empty: name the directory of the authority" -}}{{- end -}}
{{- if not $i.tls.acme.email -}}{{- fail "ingress.tls.acme.email is empty: say who is told when a certificate cannot be renewed" -}}{{- end -}}
{{- if and (eq $i.tls.acme.solver "dns01") (not $i.tls.acme.route53.hostedZoneID) -}}{{- fail "ingress.tls.acme.route53.hostedZoneID is empty, and ingress.tls.acme.solver = \"dns01\"" -}}{{- end -}}
{{- end -}}
{{- else if $i.tls.enabled -}}
{{- fail "ingress.tls.enabled = true with ingress.enabled = false" -}}
{{- end -}}

{{- if and .Values.networkPolicy.enabled (not .Values.redis.enabled) $redisLabels (not .Values.networkPolicy.redisCidrs) -}}
{{- fail (printf "networkPolicy.redisCidrs is empty, and redis.host = %q lies outside: name its networks" .Values.redis.host) -}}
{{- end -}}
{{- if and .Values.networkPolicy.enabled (eq .Values.database.type "postgresql") (not .Values.postgresql.enabled) (not .Values.networkPolicy.databaseCidrs) -}}
{{- fail (printf "networkPolicy.databaseCidrs is empty, and postgresql.host = %q lies outside: name its networks" .Values.postgresql.host) -}}
{{- end -}}

{{- $s := .Values.secrets -}}
{{- range $key, $keys := include "gristmill.neededSecrets" . | fromJson -}}
{{- $named := get $s.names $key -}}
{{- if and (eq $s.mode "existing") (not $named) -}}
{{- fail (printf "secrets.names.%s is empty, and secrets.mode = \"existing\": name the Secret that has %s" $key (join " and " $keys)) -}}
{{- end -}}
{{- if and (eq $s.mode "sealed") (not $named) -}}
{{- range $keys -}}
{{- if not (dig $key . "" $s.sealed) -}}{{- fail (printf "secrets.sealed.%s has no %q, and secrets.mode = \"sealed\": seal it, or name a Secret in secrets.names.%s" $key . $key) -}}{{- end -}}
{{- end -}}
{{- end -}}
{{- if and (eq $s.mode "generate") (not $named) -}}
{{- if and (has $key (list "producer" "consumer")) (not $.Values.queueServer.enabled) -}}
{{- fail (printf "secrets.names.%s is empty, secrets.mode = \"generate\", and queueServer.enabled is false: keys of AWS cannot be generated" $key) -}}
{{- end -}}
{{- if eq $key "bucket" -}}{{- fail "secrets.names.bucket is empty, and secrets.mode = \"generate\": keys of a bucket cannot be generated" -}}{{- end -}}
{{- if and (eq $key "database") (or (not $.Values.postgresql.enabled) $s.names.postgresql) -}}
{{- fail "secrets.names.database is empty, and secrets.mode = \"generate\": the password of a PostgreSQL that is not made here is not known" -}}
{{- end -}}
{{- if and (eq $key "runtimeConfig") $redisLabels (or (not $.Values.redis.enabled) $s.names.redis) -}}
{{- fail "secrets.names.runtimeConfig is empty, and secrets.mode = \"generate\": the password of a Redis that is not made here is not known" -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- if and (eq $s.mode "external") (not $s.external.storeRef.name) -}}
{{- fail "secrets.external.storeRef.name is empty, and secrets.mode = \"external\": name a SecretStore" -}}
{{- end -}}
{{- end }}
