{{/* What the pods of all workloads share: security, scheduling, pull secrets. */}}

{{/* Arguments: dict user. */}}
{{- define "gristmill.podSecurity" -}}
securityContext:
  runAsNonRoot: true
  runAsUser: {{ int64 .user }}
  runAsGroup: {{ int64 .user }}
  fsGroup: {{ int64 .user }}
  fsGroupChangePolicy: OnRootMismatch
  seccompProfile: { type: RuntimeDefault }
{{- end }}

{{- define "gristmill.containerSecurity" -}}
securityContext:
  allowPrivilegeEscalation: false
  privileged: false
  readOnlyRootFilesystem: true
  runAsNonRoot: true
  capabilities: { drop: [ALL] }
{{- end }}

{{- define "gristmill.pullSecrets" -}}
{{- with .Values.image.pullSecrets -}}
imagePullSecrets:
{{- range . }}
  - name: {{ . }}
{{- end }}
{{- end -}}
{{- end }}

{{/* Arguments: dict root name replicated (false: one pod with a volume, nothing to spread). */}}
{{- define "gristmill.scheduling" -}}
{{- $root := .root -}}
{{- with $root.Values.scheduling.priorityClassName -}}
priorityClassName: {{ . }}
{{ end -}}
{{- with $root.Values.scheduling.nodeSelector -}}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{ end -}}
{{- with $root.Values.scheduling.tolerations -}}
tolerations:
  {{- toYaml . | nindent 2 }}
{{ end -}}
{{- if .replicated -}}
topologySpreadConstraints:
  - maxSkew: 1
    topologyKey: topology.kubernetes.io/zone
    whenUnsatisfiable: {{ $root.Values.scheduling.zoneSpread }}
    labelSelector:
      matchLabels:
        {{- include "gristmill.selector" (dict "root" $root "workload" .name) | nindent 8 }}
    matchLabelKeys: [pod-template-hash]
  - maxSkew: 1
    topologyKey: kubernetes.io/hostname
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels:
        {{- include "gristmill.selector" (dict "root" $root "workload" .name) | nindent 8 }}
    matchLabelKeys: [pod-template-hash]
{{- if ne $root.Values.scheduling.antiAffinity "none" }}
affinity:
  podAntiAffinity:
    {{- if eq $root.Values.scheduling.antiAffinity "required" }}
    requiredDuringSchedulingIgnoredDuringExecution:
      - topologyKey: kubernetes.io/hostname
        labelSelector:
          matchLabels:
            {{- include "gristmill.selector" (dict "root" $root "workload" .name) | nindent 12 }}
        matchLabelKeys: [pod-template-hash]
    {{- else }}
    preferredDuringSchedulingIgnoredDuringExecution:
      - weight: 100
        podAffinityTerm:
          topologyKey: kubernetes.io/hostname
          labelSelector:
            matchLabels:
              {{- include "gristmill.selector" (dict "root" $root "workload" .name) | nindent 14 }}
    {{- end }}
{{- end }}
{{- end -}}
{{- end }}

{{/* The volume of a StatefulSet, kept when the StatefulSet goes. Arguments: dict root workload persistence. */}}
{{- define "gristmill.dataClaim" -}}
persistentVolumeClaimRetentionPolicy:
  whenDeleted: Retain
  whenScaled: Retain
volumeClaimTemplates:
  - metadata:
      name: data
      labels:
        {{- include "gristmill.selector" (dict "root" .root "workload" .workload) | nindent 8 }}
    spec:
      accessModes: [ReadWriteOnce]
      {{- with .persistence.storageClass }}
      storageClassName: {{ . }}
      {{- end }}
      resources:
        requests:
          storage: {{ .persistence.size }}
{{- end }}

{{/* The head of a NetworkPolicy. Arguments: dict root name. */}}
{{- define "gristmill.policyMeta" -}}
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata:
  name: {{ include "gristmill.fullname" .root }}-{{ .name }}
  namespace: {{ .root.Release.Namespace }}
  labels:
    {{- include "gristmill.labels" (dict "root" .root) | nindent 4 }}
{{- end }}

{{/* Pods of another namespace, as a peer. Arguments: namespace, pods (`key=value,…`). */}}
{{- define "gristmill.otherNamespace" -}}
- namespaceSelector:
    matchLabels:
      kubernetes.io/metadata.name: {{ .namespace }}
  {{- with .pods }}
  podSelector:
    matchLabels:
      {{- range splitList "," . }}
      {{- $label := splitn "=" 2 . }}
      {{ $label._0 }}: {{ $label._1 | quote }}
      {{- end }}
  {{- end }}
{{- end }}
