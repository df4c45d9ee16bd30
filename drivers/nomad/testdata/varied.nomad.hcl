# Fifty jobs as people write them, for the import of what runs. A line that
# begins with "job" begins the next one.

job "plain" {
  group "app" {
    task "main" {
      driver = "mock_driver"
      config { run_for = "10h" }
    }
  }
}

job "three-members" {
  datacenters = ["dc1"]
  group "app" {
    count = 3
    task "main" {
      driver = "mock_driver"
      config { run_for = "10h" }
    }
  }
}

job "none-wanted" {
  group "app" {
    count = 0
    task "main" {
      driver = "mock_driver"
      config { run_for = "10h" }
    }
  }
}

job "wild-datacenters" {
  datacenters = ["dc*", "eu-*"]
  group "app" {
    task "main" {
      driver = "mock_driver"
      config { run_for = "10h" }
    }
  }
}

job "display-name" {
  name = "The shop's own name"
  group "app" {
    task "main" {
      driver = "mock_driver"
      config { run_for = "10h" }
    }
  }
}

job "Shop.Cart_API" {
  group "app" {
    task "main" {
      driver = "mock_driver"
      config { run_for = "10h" }
    }
  }
}

job "7-digits-first" {
  group "app" {
    task "main" {
      driver = "mock_driver"
      config { run_for = "10h" }
    }
  }
}

job "important" {
  priority    = 70
  all_at_once = true
  group "app" {
    task "main" {
      driver = "mock_driver"
      config { run_for = "10h" }
    }
  }
}

job "system" {
  type = "system"
  group "app" {
    task "main" {
      driver = "mock_driver"
      config { run_for = "10h" }
    }
  }
}

job "system-paced" {
  type = "system"
  update {
    max_parallel = 1
    stagger      = "10s"
  }
  group "app" {
    restart {
      attempts = 5
      interval = "10m"
      delay    = "20s"
      mode     = "delay"
    }
    task "main" {
      driver = "mock_driver"
      config { run_for = "10h" }
    }
  }
}

job "batch" {
  type = "batch"
  group "app" {
    task "main" {
      driver = "mock_driver"
      config { run_for = "10h" }
    }
  }
}

job "batch-many" {
  type = "batch"
  group "app" {
    count = 3
    reschedule {
      attempts  = 3
      interval  = "2h"
      unlimited = false
    }
    restart {
      attempts = 1
      mode     = "fail"
    }
    task "main" {
      driver = "mock_driver"
      config { run_for = "10h" }
    }
  }
}

job "sysbatch" {
  type = "sysbatch"
  group "app" {
    task "main" {
      driver = "mock_driver"
      config { run_for = "10h" }
    }
  }
}

job "nightly" {
  type = "batch"
  periodic {
    crons            = ["0 2 * * *", "0 14 * * *"]
    prohibit_overlap = true
    time_zone        = "Europe/Berlin"
  }
  group "app" {
    task "main" {
      driver = "mock_driver"
      config { run_for = "1s" }
    }
  }
}

job "hourly" {
  type = "batch"
  periodic {
    cron    = "30 * * * *"
    enabled = false
  }
  group "app" {
    task "main" {
      driver = "mock_driver"
      config { run_for = "1s" }
    }
  }
}

job "sysbatch-weekly" {
  type = "sysbatch"
  periodic {
    cron = "@weekly"
  }
  group "app" {
    task "main" {
      driver = "mock_driver"
      config { run_for = "1s" }
    }
  }
}

job "encode" {
  type = "batch"
  parameterized {
    payload       = "required"
    meta_required = ["file"]
    meta_optional = ["quality"]
  }
  group "app" {
    task "main" {
      driver = "mock_driver"
      config { run_for = "1s" }
      dispatch_payload {
        file = "input.json"
      }
    }
  }
}

job "mesh" {
  group "api" {
    network {
      mode = "bridge"
    }
    service {
      name = "mesh-api"
      port = "9001"
      connect {
        sidecar_service {
          proxy {
            upstreams {
              destination_name = "mesh-db"
              local_bind_port  = 8080
            }
          }
        }
        sidecar_task {
          resources {
            cpu    = 20
            memory = 32
          }
        }
      }
    }
    task "main" {
      driver = "mock_driver"
      config { run_for = "10h" }
    }
  }
}

job "mesh-plain" {
  group "api" {
    network {
      mode = "bridge"
    }
    service {
      name = "mesh-plain"
      port = "9001"
      connect {
        sidecar_service {}
      }
    }
    task "main" {
      driver = "mock_driver"
      config { run_for = "10h" }
    }
  }
}

job "mesh-native" {
  group "app" {
    network {
      port "http" {}
    }
    service {
      name = "mesh-native"
      port = "http"
      connect {
        native = true
      }
      task = "main"
    }
    task "main" {
      driver = "mock_driver"
      config { run_for = "10h" }
    }
  }
}

job "scaled" {
  group "app" {
    count = 2
    scaling {
      min     = 1
      max     = 8
      enabled = true
      policy {
        cooldown            = "1m"
        evaluation_interval = "30s"
        check "busy" {
          source = "prometheus"
          query  = "avg(busy)"
          strategy "target-value" {
            target = 0.6
          }
        }
      }
    }
    task "main" {
      driver = "mock_driver"
      config { run_for = "10h" }
    }
  }
}

job "scaled-off" {
  group "app" {
    count = 2
    scaling {
      min     = 1
      max     = 4
      enabled = false
    }
    task "main" {
      driver = "mock_driver"
      config { run_for = "10h" }
    }
  }
}

job "scaled-two" {
  group "front" {
    count = 1
    scaling {
      min = 1
      max = 4
    }
    task "main" {
      driver = "mock_driver"
      config { run_for = "10h" }
    }
  }
  group "back" {
    count = 2
    task "main" {
      driver = "mock_driver"
      config { run_for = "10h" }
    }
  }
}

job "scaled-to-zero" {
  group "app" {
    count = 0
    scaling {
      min = 0
      max = 3
    }
    task "main" {
      driver = "mock_driver"
      config { run_for = "10h" }
    }
  }
}

job "templates" {
  group "app" {
    task "main" {
      driver = "mock_driver"
      config { run_for = "10h" }
      template {
        data        = <<EOF
# written by hand
listen: "{{ env "NOMAD_ALLOC_ID" }}"
	tab, trailing space: 
yes: 0123
{{ range $i := loop 3 }}line {{ $i }}
{{ end }}
EOF
        destination = "local/app.yaml"
        perms       = "0600"
        change_mode = "signal"
        change_signal = "SIGHUP"
      }
      template {
        data            = "KEY=<<  env \"NOMAD_JOB_NAME\" >>"
        destination     = "secrets/app.env"
        env             = true
        left_delimiter  = "<<"
        right_delimiter = ">>"
        change_mode     = "noop"
      }
    }
  }
}

job "template-waits" {
  group "app" {
    task "main" {
      driver = "mock_driver"
      config { run_for = "10h" }
      template {
        data        = "fixed"
        destination = "local/fixed"
        splay       = "1m"
        wait {
          min = "5s"
          max = "30s"
        }
        error_on_missing_key = true
      }
    }
  }
}

job "template-script" {
  group "app" {
    task "main" {
      driver = "mock_driver"
      config { run_for = "10h" }
      template {
        data        = "fixed"
        destination = "local/fixed"
        change_mode = "script"
        change_script {
          command       = "/bin/true"
          args          = ["-x"]
          timeout       = "20s"
          fail_on_error = true
        }
      }
    }
  }
}

job "host-volume" {
  group "app" {
    volume "data" {
      type      = "host"
      source    = "fast"
      read_only = false
    }
    task "main" {
      driver = "mock_driver"
      config { run_for = "10h" }
      volume_mount {
        volume      = "data"
        destination = "/data"
        read_only   = true
      }
    }
  }
}

job "csi-volume" {
  group "app" {
    volume "data" {
      type            = "csi"
      source          = "disk"
      access_mode     = "single-node-writer"
      attachment_mode = "file-system"
      per_alloc       = true
      mount_options {
        fs_type     = "ext4"
        mount_flags = ["noatime"]
      }
    }
    task "main" {
      driver = "mock_driver"
      config { run_for = "10h" }
      volume_mount {
        volume      = "data"
        destination = "/data"
      }
    }
  }
}

job "csi-plugin" {
  type = "system"
  group "nodes" {
    task "plugin" {
      driver = "mock_driver"
      config { run_for = "10h" }
      csi_plugin {
        id        = "disks"
        type      = "node"
        mount_dir = "/csi"
      }
    }
  }
}

job "constraints" {
  constraint {
    attribute = "${attr.kernel.name}"
    value     = "linux"
  }
  constraint {
    attribute = "${attr.nomad.version}"
    operator  = "semver"
    value     = ">= 1.0.0"
  }
  group "app" {
    constraint {
      operator = "distinct_hosts"
      value    = "true"
    }
    task "main" {
      driver = "mock_driver"
      config { run_for = "10h" }
      constraint {
        attribute = "${node.unique.name}"
        operator  = "regexp"
        value     = "^n"
      }
    }
  }
}

job "unplaceable" {
  constraint {
    attribute = "${meta.rack}"
    operator  = "set_contains"
    value     = "r1,r2"
  }
  group "app" {
    task "main" {
      driver = "mock_driver"
      config { run_for = "10h" }
    }
  }
}

job "affinities" {
  affinity {
    attribute = "${meta.ssd}"
    value     = "true"
    weight    = 80
  }
  group "app" {
    affinity {
      attribute = "${node.class}"
      operator  = "!="
      value     = "old"
      weight    = -20
    }
    task "main" {
      driver = "mock_driver"
      config { run_for = "10h" }
      affinity {
        attribute = "${node.datacenter}"
        value     = "dc1"
        weight    = 10
      }
    }
  }
}

job "spreads" {
  spread {
    attribute = "${node.datacenter}"
    weight    = 60
    target "dc1" {
      percent = 70
    }
    target "dc2" {
      percent = 30
    }
  }
  group "app" {
    count = 2
    spread {
      attribute = "${meta.rack}"
    }
    task "main" {
      driver = "mock_driver"
      config { run_for = "10h" }
    }
  }
}

job "two-groups" {
  group "front" {
    count = 2
    task "main" {
      driver = "mock_driver"
      config { run_for = "10h" }
    }
  }
  group "back" {
    task "main" {
      driver = "mock_driver"
      config { run_for = "10h" }
    }
    task "helper" {
      driver = "mock_driver"
      config { run_for = "10h" }
      leader = true
    }
  }
}

job "lifecycle" {
  group "app" {
    task "init" {
      driver = "mock_driver"
      config { run_for = "100ms" }
      lifecycle {
        hook = "prestart"
      }
    }
    task "ship" {
      driver = "mock_driver"
      config { run_for = "10h" }
      lifecycle {
        hook    = "prestart"
        sidecar = true
      }
      restart {
        attempts = 10
        delay    = "7s"
        interval = "1h"
        mode     = "delay"
      }
    }
    task "main" {
      driver = "mock_driver"
      config { run_for = "10h" }
    }
    task "tell" {
      driver = "mock_driver"
      config { run_for = "10h" }
      lifecycle {
        hook    = "poststart"
        sidecar = true
      }
    }
    task "tidy" {
      driver = "mock_driver"
      config { run_for = "100ms" }
      lifecycle {
        hook = "poststop"
      }
    }
  }
}

job "update-job" {
  update {
    max_parallel      = 2
    health_check      = "task_states"
    min_healthy_time  = "1s"
    healthy_deadline  = "3m"
    progress_deadline = "9m"
    auto_revert       = true
  }
  group "app" {
    count = 3
    task "main" {
      driver = "mock_driver"
      config { run_for = "10h" }
    }
  }
}

job "update-group" {
  group "app" {
    count = 2
    update {
      canary           = 1
      max_parallel     = 1
      auto_promote     = true
      min_healthy_time = "1s"
    }
    task "main" {
      driver = "mock_driver"
      config { run_for = "10h" }
    }
  }
}

job "update-none" {
  update {
    max_parallel = 0
  }
  group "app" {
    count = 2
    task "main" {
      driver = "mock_driver"
      config { run_for = "10h" }
    }
  }
}

job "restarts" {
  reschedule {
    delay          = "45s"
    delay_function = "fibonacci"
    max_delay      = "2h"
    unlimited      = true
  }
  group "app" {
    restart {
      attempts         = 0
      mode             = "fail"
      render_templates = true
    }
    migrate {
      max_parallel     = 2
      health_check     = "task_states"
      min_healthy_time = "15s"
      healthy_deadline = "4m"
    }
    disconnect {
      lost_after = "6h"
      replace    = false
      reconcile  = "keep_original"
    }
    prevent_reschedule_on_lost = false
    task "main" {
      driver = "mock_driver"
      config { run_for = "10h" }
    }
  }
}

job "stopping" {
  group "app" {
    shutdown_delay = "3s"
    ephemeral_disk {
      size    = 20
      migrate = true
      sticky  = true
    }
    task "main" {
      driver         = "mock_driver"
      kill_timeout   = "25s"
      kill_signal    = "SIGINT"
      shutdown_delay = "1s"
      user           = "nobody"
      config { run_for = "10h" }
      logs {
        max_files     = 2
        max_file_size = 3
      }
    }
  }
}

job "metadata" {
  meta {
    team = "shop"
    yes  = "no"
  }
  group "app" {
    meta {
      group = "007"
    }
    task "main" {
      driver = "mock_driver"
      config { run_for = "10h" }
      meta {
        dashed-key = "1e3"
      }
      env {
        EMPTY       = ""
        MULTI       = "one\ntwo\n"
        ON          = "on"
        NUMBER      = "0012"
        UNICODE     = "grün ✓"
        DB_PASSWORD = "hunter2"
        DATABASE    = "postgres://shop:hunter2@db.example/shop"
        TOKEN_FROM  = "${NOMAD_META_group}"
      }
    }
  }
}

job "ports" {
  group "app" {
    network {
      mode = "host"
      port "http" {
        to = 8080
      }
      port "admin" {
        static = 18099
      }
      dns {
        servers  = ["10.0.0.2"]
        searches = ["example.org"]
        options  = ["ndots:2"]
      }
    }
    service {
      name     = "ports-http"
      port     = "http"
      provider = "nomad"
      tags     = ["traefik.enable=true", "v1"]
      meta {
        version = "1"
      }
      check {
        type     = "http"
        path     = "/health"
        interval = "5s"
        timeout  = "2s"
      }
    }
    service {
      name     = "ports-admin"
      port     = "admin"
      provider = "nomad"
      check {
        type     = "tcp"
        interval = "10s"
        timeout  = "1s"
        check_restart {
          limit = 3
          grace = "90s"
        }
      }
    }
    task "main" {
      driver = "mock_driver"
      config { run_for = "10h" }
    }
  }
}

job "services" {
  group "app" {
    network {
      port "http" {}
      port "grpc" {}
    }
    task "main" {
      driver = "mock_driver"
      config { run_for = "10h" }
      service {
        port         = "http"
        canary_tags  = ["canary"]
        address_mode = "host"
        check {
          type            = "http"
          path            = "/ready"
          method          = "POST"
          body            = "{}"
          interval        = "15s"
          timeout         = "3s"
          tls_skip_verify = true
          protocol        = "https"
          header {
            Authorization = ["Basic eA=="]
          }
          success_before_passing   = 2
          failures_before_critical = 3
        }
      }
      service {
        name                = "services-grpc"
        port                = "grpc"
        on_update           = "ignore"
        enable_tag_override = true
        check {
          type         = "grpc"
          grpc_service = "shop.Health"
          grpc_use_tls = true
          interval     = "15s"
          timeout      = "3s"
        }
      }
    }
  }
}

job "artifacts" {
  group "app" {
    task "main" {
      driver = "mock_driver"
      config {
        run_for = "10h"
      }
      artifact {
        source      = "git::https://example.invalid/repo.git"
        destination = "local/repo"
        mode        = "dir"
        options {
          ref   = "v1"
          depth = 1
        }
        headers {
          X-Token = "${NOMAD_META_x}"
        }
      }
      restart {
        attempts = 0
        mode     = "fail"
      }
    }
    reschedule {
      attempts  = 0
      unlimited = false
    }
  }
}

job "docker-like" {
  group "app" {
    task "main" {
      driver = "docker"
      config {
        image        = "registry.example/web:1.2"
        ports        = ["http"]
        cap_add      = ["net_admin"]
        volumes      = ["/srv/data:/data:ro"]
        memory_hard_limit = 512
        ulimit {
          nofile = "2048:4096"
        }
        labels {
          team = "shop"
        }
        logging {
          type = "journald"
          config {
            tag = "web"
          }
        }
        auth {
          username = "robot"
          password = "hunter2"
        }
        mount {
          type   = "bind"
          source = "local"
          target = "/local"
        }
      }
      resources {
        cpu        = 50
        memory     = 64
        memory_max = 128
      }
    }
  }
}

job "identities" {
  group "app" {
    task "main" {
      driver = "mock_driver"
      config { run_for = "10h" }
      identity {
        env  = true
        file = true
      }
      identity {
        name        = "api"
        aud         = ["api.example"]
        ttl         = "1h"
        change_mode = "restart"
      }
      action "flush" {
        command = "/bin/flush"
        args    = ["--all"]
      }
    }
  }
}

job "devices" {
  ui {
    description = "written by *hand*"
    link {
      label = "runbook"
      url   = "https://runbooks.example/devices"
    }
  }
  group "app" {
    task "main" {
      driver = "mock_driver"
      config { run_for = "10h" }
      resources {
        cores  = 1
        memory = 20
        device "nvidia/gpu" {
          count = 1
          constraint {
            attribute = "${device.attr.memory}"
            operator  = ">="
            value     = "2 GiB"
          }
        }
      }
    }
  }
}

job "in-namespace" {
  namespace = "team-shop"
  group "app" {
    count = 2
    task "main" {
      driver = "mock_driver"
      config { run_for = "10h" }
    }
  }
}

job "in-pool" {
  node_pool = "spare"
  group "app" {
    task "main" {
      driver = "mock_driver"
      config { run_for = "10h" }
    }
  }
}
