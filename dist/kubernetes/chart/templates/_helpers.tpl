{{- define "kmagent.labels" -}}
app.kubernetes.io/name: kmagent
app.kubernetes.io/instance: {{ .Release.Name | quote }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service | quote }}
{{- end }}

{{/* A text: a dict of name and value. A number of a file is a float64 here, and its text another one: 1.10 is 1.1, and
12345678 is 1.2345678e+07. One that is given by --set is whole. */}}
{{- define "kmagent.text" -}}
{{- if not (or (typeIs "string" .value) (kindIs "int64" .value) (kindIs "invalid" .value)) }}
{{- fail (printf "%s is not a text but a %s, which may be written otherwise than you wrote it: quote it" .name (kindOf .value)) }}
{{- end }}
{{- with .value }}{{ . }}{{ end }}
{{- end }}
{{- define "kmagent.clusterName" -}}
{{ include "kmagent.text" (dict "name" "clusterName" "value" .Values.clusterName) }}
{{- end }}

{{- define "kmagent.image" -}}
{{- $tag := include "kmagent.text" (dict "name" "image.tag" "value" .Values.image.tag) | default (printf "%s-kubernetes" .Chart.AppVersion) -}}
image: {{ printf "%s:%s" .Values.image.repository $tag | quote }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
{{- end }}

{{- define "kmagent.apiKeySecret" -}}
{{ .Values.apiKey.existingSecret | default (printf "%s-api-key" .Values.configUpdaterName) }}
{{- end }}
{{- define "kmagent.hasApiKey" -}}
{{ if or .Values.apiKey.existingSecret .Values.API_KEY }}yes{{ end }}
{{- end }}
{{- define "kmagent.tlsSecret" -}}
{{ .Values.relay.existingTlsSecret | default (printf "%s-tls" .Values.configUpdaterName) }}
{{- end }}
{{- define "kmagent.tokenSecret" -}}
{{ .Values.relay.existingTokenSecret | default (printf "%s-token" .Values.configUpdaterName) }}
{{- end }}
{{- define "kmagent.relayHost" -}}
{{ printf "%s.%s.svc" .Values.configUpdaterName .Release.Namespace }}
{{- end }}

{{/* Separated by commas, whichever way they are given: a list, or a text with commas, blanks or both. */}}
{{- define "kmagent.namespaces" -}}
{{- $namespaces := .Values.monitoredNamespaces | default list -}}
{{- if not (kindIs "string" $namespaces) }}{{ $namespaces = join "," $namespaces }}{{ end -}}
{{- regexSplit "[,\\s]+" $namespaces -1 | compact | join "," -}}
{{- end }}

{{/* As a start script of 1.x exported them for configs: ${env:KM_K8S_MONITORED_NAMESPACES_YAML}. */}}
{{- define "kmagent.namespacesYaml" -}}
{{- $namespaces := include "kmagent.namespaces" . -}}
{{ if $namespaces }}{{ splitList "," $namespaces | toJson }}{{ else }}all{{ end }}
{{- end }}

{{- define "kmagent.daemonsetUser" -}}
{{- $user := .Values.daemonset.runAsUser | toString -}}
{{- if ne $user "" }}{{ int64 .Values.daemonset.runAsUser }}{{ else if .Values.featuresEnabled.logs }}0{{ else }}10001{{ end -}}
{{- end }}

{{/* What a collector's container may do. With SYS_PTRACE seccomp allows the hand-over. */}}
{{- define "kmagent.security" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
seccompProfile: {type: RuntimeDefault}
capabilities:
  drop: [ALL]
  {{- if .Values.handOver }}
  add: [SYS_PTRACE]
  {{- end }}
{{- end }}

{{/* The config that a group begins with: a dict of root and group. */}}
{{- define "kmagent.defaultConfig" -}}
{{- $own := index .root.Values .group "config" -}}
{{- $own | default (tpl (.root.Files.Get (printf "configs/agent-%s.yaml" .group)) .root) | trim -}}
{{- end }}

{{/* What a pod reads at its start alone: with a change it is replaced. A dict of root and group. Of the key's hash no
more than tells two keys apart, since more people read pods than Secrets. */}}
{{- define "kmagent.checksums" -}}
checksum/config: {{ include "kmagent.defaultConfig" . | sha256sum }}
{{- if and .root.Values.API_KEY (not .root.Values.apiKey.existingSecret) }}
checksum/api-key: {{ .root.Values.API_KEY | toString | sha256sum | trunc 8 | quote }}
{{- end }}
{{- end }}

{{/* The environment of a collector's pod: a dict of root, group and configMap. */}}
{{- define "kmagent.agentEnv" -}}
{{- $root := .root -}}
{{- $values := $root.Values -}}
- {name: KM_COLLECTOR_CONFIG, value: /var/lib/kmagent/config.yaml}
- {name: KM_SEED_CONFIG, value: "/etc/kmagent/latest/agent-{{ .group }}.yaml /etc/kmagent/default/agent-{{ .group }}.yaml"}
- {name: KM_COLLECTOR_ENDPOINT, value: {{ $values.COLLECTOR_ENDPOINT | quote }}}
{{- if include "kmagent.hasApiKey" $root }}
- {name: KM_API_KEY_FILE, value: /etc/kmagent/key/api-key}
{{- end }}
{{- if eq $values.mode "relay" }}
- {name: KM_UPDATE_ENDPOINT, value: "https://{{ include "kmagent.relayHost" $root }}:{{ $values.relay.port }}/{{ .group }}"}
- {name: KM_UPDATE_TOKEN_FILE, value: /etc/kmagent/relay/token}
- {name: KM_CA_FILE, value: /etc/kmagent/relay/ca.crt}
- {name: KM_CONFIG_CHECK_INTERVAL, value: {{ $values.KM_CONFIG_CHECK_INTERVAL | quote }}}
{{- else }}
# Its config comes with the ConfigMap, at a restart of the pod.
- {name: KM_CONFIG_CHECK_INTERVAL, value: "0"}
{{- end }}
# The image is made for Docker too, which the report would say.
- {name: KM_DOCKER_MODE, value: "false"}
- {name: KM_REPORT_EXTENDED, value: "true"}
- {name: KM_MIN_UPTIME, value: "{{ $values.minUptimeSeconds }}s"}
- {name: KM_CONFIRM_TIME, value: {{ $values.confirmTime | quote }}}
- {name: KM_INSTANCE_ID, valueFrom: {fieldRef: {fieldPath: metadata.uid}}}
- {name: KM_CLUSTER_NAME, value: {{ include "kmagent.clusterName" $root | quote }}}
- {name: KM_POD_NAME, valueFrom: {fieldRef: {fieldPath: metadata.name}}}
- {name: KM_NODE_NAME, valueFrom: {fieldRef: {fieldPath: spec.nodeName}}}
- {name: KM_NODE_HOST_IP, valueFrom: {fieldRef: {fieldPath: status.hostIP}}}
{{- end }}

{{- define "kmagent.agentMounts" -}}
- {name: state, mountPath: /var/lib/kmagent}
- {name: run, mountPath: /run/kmagent}
- {name: tmp, mountPath: /tmp}
- {name: latest, mountPath: /etc/kmagent/latest, readOnly: true}
- {name: default, mountPath: /etc/kmagent/default, readOnly: true}
{{- if include "kmagent.hasApiKey" .root }}
- {name: key, mountPath: /etc/kmagent/key, readOnly: true}
{{- end }}
{{- if eq .root.Values.mode "relay" }}
- {name: relay, mountPath: /etc/kmagent/relay, readOnly: true}
{{- end }}
{{- end }}

{{/* A mode of 288 is 0440, which YAML 1.2 reads as a text. */}}
{{- define "kmagent.agentVolumes" -}}
{{- $root := .root -}}
- {name: state, emptyDir: {}}
- {name: run, emptyDir: {medium: Memory, sizeLimit: 1Mi}}
- {name: tmp, emptyDir: {}}
# Without data until a config came from afar and has proved itself.
- {name: latest, configMap: {name: {{ .configMap | quote }}, optional: true}}
- {name: default, configMap: {name: {{ .configMap }}-default}}
{{- if include "kmagent.hasApiKey" $root }}
- name: key
  secret:
    secretName: {{ include "kmagent.apiKeySecret" $root | quote }}
    defaultMode: 288
    items: [{key: {{ $root.Values.apiKey.key | quote }}, path: api-key}]
{{- end }}
{{- if eq $root.Values.mode "relay" }}
- name: relay
  projected:
    defaultMode: 288
    sources:
      - secret: {name: {{ include "kmagent.tlsSecret" $root | quote }}, items: [{key: ca.crt, path: ca.crt}]}
      - secret: {name: {{ include "kmagent.tokenSecret" $root | quote }}, items: [{key: token, path: token}]}
{{- end }}
{{- end }}

{{/* A small program each half minute. Until a collector has run it is asked more often, or a rollout waited as long for
each pod; that it does not run yet restarts nothing: the pod may wait for its first config. */}}
{{- define "kmagent.readiness" -}}
startupProbe:
  exec: {command: [/usr/local/bin/kmagent, status, --ready]}
  periodSeconds: 3
  timeoutSeconds: 15
  failureThreshold: 1000000000
readinessProbe:
  exec: {command: [/usr/local/bin/kmagent, status, --ready]}
  periodSeconds: 30
  timeoutSeconds: 15
{{- end }}
