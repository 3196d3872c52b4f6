{{/* The pod of a shim: a worker, the schedules, or an HTTP service without SpinKube. */}}

{{/* Environment of `gristmill up`. Arguments: dict root w. */}}
{{- define "gristmill.shimEnv" -}}
{{- $root := .root -}}
- name: GRISTMILL_LOG
  value: {{ $root.Values.shim.log | quote }}
- name: GRISTMILL_LOG_FORMAT
  value: {{ $root.Values.shim.logFormat | quote }}
{{- if or (eq .w.kind "worker") (include "gristmill.usesDynamo" (list $root .w)) }}
- name: AWS_REGION
  value: {{ $root.Values.aws.region | quote }}
{{- if eq $root.Values.aws.consumerCredentials "secret" }}
- name: AWS_ACCESS_KEY_ID
  valueFrom:
    secretKeyRef:
      name: {{ include "gristmill.secretName" (list $root "consumer") }}
      key: aws_access_key_id
- name: AWS_SECRET_ACCESS_KEY
  valueFrom:
    secretKeyRef:
      name: {{ include "gristmill.secretName" (list $root "consumer") }}
      key: aws_secret_access_key
{{- end }}
{{- end }}
{{- if $root.Values.authorities.secret }}
- name: SSL_CERT_FILE
  value: /etc/gristmill-authorities/ca-certificates.crt
{{- end }}
{{- if and $root.Values.app.registrySecret (hasPrefix "oci://" $root.Values.app.from) }}
- name: DOCKER_CONFIG
  value: /etc/gristmill-registry
{{- end }}
{{- range $variable, $from := include "gristmill.variablesOf" (list $root .w) | fromJson }}
- name: SPIN_VARIABLE_{{ upper $variable }}
  valueFrom:
    {{- include "gristmill.variableSource" (list $root $variable $from) | nindent 4 }}
{{- end }}
{{- range $name, $value := $root.Values.shim.extraEnv }}
- name: {{ $name }}
  value: {{ $value | quote }}
{{- end }}
{{- end }}

{{/* Arguments: list root variable from. */}}
{{- define "gristmill.variableSource" -}}
{{- $root := index . 0 -}}{{- $from := index . 2 -}}
{{- if $from.secret -}}
secretKeyRef:
  name: {{ include "gristmill.secretName" (list $root $from.secret) }}
  key: {{ index . 1 }}
{{- else -}}
configMapKeyRef:
  name: {{ include "gristmill.fullname" $root }}-variables
  key: {{ index . 1 }}
{{- end -}}
{{- end }}

{{/* "true" or nothing. Arguments: list root workload. */}}
{{- define "gristmill.usesDynamo" -}}
{{- $root := index . 0 -}}
{{- range (index . 1).uses.stores -}}{{- if eq (get $root.Values.stores .).type "dynamodb" -}}true{{- end -}}{{- end -}}
{{- end }}

{{/* Arguments of `gristmill`. Arguments: dict root w. */}}
{{- define "gristmill.shimArgs" -}}
{{- $root := .root -}}{{- $spec := .w.spec -}}
- up
- --from
- {{ $root.Values.app.from | quote }}
{{- if hasPrefix "oci://" $root.Values.app.from }}
- --cache-dir
- /state/downloads
{{- if $root.Values.app.insecure }}
- --insecure
{{- end }}
{{- end }}
- --no-local-queue
{{- if eq .w.kind "service" }}
- --trigger
- http
{{- range $spec.components }}
- --component
- {{ . }}
{{- end }}
- --listen
- {{ printf "0.0.0.0:%d" (int64 $root.Values.shim.httpPort) | quote }}
- --request-timeout
- {{ int64 $root.Values.shim.requestTimeoutSeconds | quote }}
{{- else if eq .w.kind "worker" }}
- --trigger
- sqs
- --component
- {{ $spec.component }}
- --max-instance-memory
- {{ int64 $spec.maxInstanceMemory | quote }}
{{- else }}
- --trigger
- cron
{{- end }}
- --admin-listen
- {{ printf "0.0.0.0:%d" (int64 $root.Values.shim.adminPort) | quote }}
- --state-dir
- /state
{{- if or .w.uses.stores .w.uses.sql }}
- --runtime-config-file
- /etc/gristmill/runtime-config.toml
{{- end }}
- --grace-period
- {{ int64 $spec.gracePeriodSeconds | quote }}
{{- end }}

{{/* The spec of a pod. Arguments: dict root name w. */}}
{{- define "gristmill.shimPod" -}}
{{- $root := .root -}}{{- $w := .w -}}
{{- $preStop := ternary (int64 (default 0 $w.spec.preStopSeconds)) 0 (eq $w.kind "service") -}}
{{- $embedded := include "gristmill.embeddedOf" (list $root $w) | fromJsonArray -}}
{{- $registry := and $root.Values.app.registrySecret (hasPrefix "oci://" $root.Values.app.from) -}}
serviceAccountName: {{ include "gristmill.serviceAccountName" (list $root .name) }}
automountServiceAccountToken: false
enableServiceLinks: false
# The drain, what comes before it, and a margin before SIGKILL.
terminationGracePeriodSeconds: {{ add $preStop (int64 $w.spec.gracePeriodSeconds) (int64 $root.Values.shim.terminationMarginSeconds) }}
{{- include "gristmill.podSecurity" (dict "user" $root.Values.shim.runAsUser) | nindent 0 }}
{{- include "gristmill.pullSecrets" $root | nindent 0 }}
{{- include "gristmill.scheduling" (dict "root" $root "name" .name "replicated" true) | nindent 0 }}
containers:
  - name: gristmill
    image: {{ include "gristmill.image" (list $root $root.Values.image) | quote }}
    imagePullPolicy: {{ $root.Values.image.pullPolicy }}
    command: [/usr/local/bin/gristmill]
    args:
      {{- include "gristmill.shimArgs" (dict "root" $root "w" $w) | nindent 6 }}
    env:
      {{- include "gristmill.shimEnv" (dict "root" $root "w" $w) | nindent 6 }}
    ports:
      - name: admin
        containerPort: {{ int64 $root.Values.shim.adminPort }}
      {{- if eq $w.kind "service" }}
      - name: http
        containerPort: {{ int64 $root.Values.shim.httpPort }}
      {{- end }}
    # Components are compiled before the admin port answers.
    startupProbe:
      httpGet: { path: /livez, port: admin }
      periodSeconds: 2
      timeoutSeconds: 2
      failureThreshold: 60
    livenessProbe:
      httpGet: { path: /livez, port: admin }
      periodSeconds: 10
      timeoutSeconds: 5
      failureThreshold: 3
    readinessProbe:
      httpGet: { path: /readyz, port: admin }
      periodSeconds: 5
      timeoutSeconds: 3
      failureThreshold: 2
    {{- if $preStop }}
    lifecycle:
      preStop:
        sleep: { seconds: {{ $preStop }} }
    {{- end }}
    resources:
      {{- toYaml $w.spec.resources | nindent 6 }}
    {{- include "gristmill.containerSecurity" $root | nindent 4 }}
    volumeMounts:
      - { name: state, mountPath: /state }
      - { name: tmp, mountPath: /tmp }
      {{- if or $w.uses.stores $w.uses.sql }}
      - { name: runtime-config, mountPath: /etc/gristmill, readOnly: true }
      {{- end }}
      {{- if $root.Values.authorities.secret }}
      - { name: authorities, mountPath: /etc/gristmill-authorities, readOnly: true }
      {{- end }}
      {{- if $registry }}
      - { name: registry, mountPath: /etc/gristmill-registry, readOnly: true }
      {{- end }}
      {{- range $embedded }}
      - { name: embedded-{{ . }}, mountPath: /stores/{{ . }} }
      {{- end }}
volumes:
  - name: state
    emptyDir: { sizeLimit: {{ $root.Values.shim.scratchSize }} }
  - name: tmp
    emptyDir: { sizeLimit: 64Mi }
  {{- if or $w.uses.stores $w.uses.sql }}
  - name: runtime-config
    secret:
      secretName: {{ include "gristmill.secretName" (list $root "runtimeConfig") }}
      defaultMode: 0440
      items: [{ key: runtime-config.toml, path: runtime-config.toml }]
  {{- end }}
  {{- with $root.Values.authorities.secret }}
  - name: authorities
    secret:
      secretName: {{ . }}
      defaultMode: 0440
      items: [{ key: ca-certificates.crt, path: ca-certificates.crt }]
  {{- end }}
  {{- if $registry }}
  - name: registry
    secret:
      secretName: {{ $root.Values.app.registrySecret }}
      defaultMode: 0440
      items: [{ key: .dockerconfigjson, path: config.json }]
  {{- end }}
  {{- range $embedded }}
  - name: embedded-{{ . }}
    persistentVolumeClaim:
      claimName: {{ include "gristmill.fullname" $root }}-embedded-{{ . }}
  {{- end }}
{{- end }}
