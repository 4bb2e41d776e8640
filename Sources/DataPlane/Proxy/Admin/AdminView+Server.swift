import Base
import ConfigText
import HTTP
import ProxyConfig
import Resilience
import Telemetry

/// Pages about the process.
extension AdminView {
    func index() -> AdminResponse {
        var html = """
            <!doctype html>
            <html lang="en"><head><meta charset="utf-8"><title>outrigger-proxy</title>
            <style>body{font:15px/1.5 system-ui,sans-serif;margin:2em}td{padding:.1em 1em .1em 0;vertical-align:top}</style></head>
            <body><h1>outrigger-proxy \(ProxyProgram.version)</h1>
            <p>\(escaped(snapshot?.configuration.node.id ?? "-")): \(state.rawValue), up \(Words.span(uptime)), configuration \
            \(escaped(snapshot?.version ?? "none")).</p>
            <table>

            """
        for page in AdminPage.allCases where page != .index {
            // A link asks by GET: what does something is shown with its method instead.
            let name = page.methods.contains(.get) ? "<a href=\"\(page.rawValue)\">\(page.rawValue)</a>" : "POST \(page.rawValue)"
            html += "<tr><td><code>\(name)</code></td><td>\(escaped(page.summary))</td></tr>\n"
        }
        html += "</table></body></html>\n"
        var response = AdminResponse(html)
        response.contentType = "text/html; charset=utf-8"
        return response
    }

    private func escaped(_ text: String) -> String {
        text.reduce(into: "") { html, character in
            switch character {
            case "&": html += "&amp;"
            case "<": html += "&lt;"
            case ">": html += "&gt;"
            case "\"": html += "&quot;"
            default: html.append(character)
            }
        }
    }

    func ready() -> AdminResponse {
        let trouble = state == .draining ? nil : controlPlane?.trouble(isLive: state == .live)
        return AdminResponse(status: state == .live ? 200 : 503, state.rawValue + "\n" + (trouble.map { $0 + "\n" } ?? ""))
    }

    /// envoy.admin.v3.ServerInfo, and what it has no field for under `outrigger`.
    func serverInfo() -> AdminResponse {
        let node = snapshot?.configuration.node
        return AdminResponse(
            .entries([
                "version": .text("outrigger-proxy/\(ProxyProgram.version)"),
                "state": .text(state.rawValue),
                "uptime_current_epoch": .text("\(uptime.count / 1_000_000_000)s"),
                "uptime_all_epochs": .text("\(uptime.count / 1_000_000_000)s"),
                "hot_restart_version": .text("disabled"),
                "command_line_options": .entries([
                    "concurrency": .number(workerCount), "config_path": .text(snapshotPath), "log_level": .text("\(logLevel)"),
                    "drain_time": .text(duration(drainTime)),
                ]),
                "node": node.map { node in
                    .entries([
                        "id": .text(node.id), "cluster": .text(node.cluster),
                        "locality": .entries([
                            "region": .text(node.locality.region), "zone": .text(node.locality.zone),
                            "sub_zone": .text(node.locality.subZone),
                        ]),
                        "metadata": .entries([
                            "mesh": .text(node.mesh), "role": .text(node.role.rawValue), "name": .text(node.name),
                        ]),
                    ])
                },
                "outrigger": .entries([
                    "started_at": .text(time(started)), "arguments": .list(arguments.map { .text($0) }), "workers": .number(workerCount),
                    "config": configState, "control_plane": controlPlane?.document(now: now), "overload": overloadState,
                ]),
            ]))
    }

    /// Which configuration runs, since when, and what was refused since.
    var configState: Document {
        .entries([
            "version": snapshot.map { .text($0.version) },
            "applied_at": appliedAt.map { .text(time($0)) },
            "age": appliedAt.map { .text(duration((now - $0).duration)) },
            "applied_total": .number(applications),
            "rejected_total": .number(rejections),
            "last_rejected": rejection.map { .entries(["version": .text($0.version), "reason": .text($0.reason)]) },
        ])
    }

    /// How full the process is, and what it gives up for that.
    private var overloadState: Document {
        func document(_ gauge: OverloadGauge) -> Document {
            .entries([
                "used": .number(gauge.used), "limit": gauge.limit.map { .number($0) },
                "percent": gauge.limit.map { _ in .number(gauge.percent) },
                "level": .text(gauge.level.name),
            ])
        }
        return .entries([
            "level": .text(overload.level.name), "since": overload.since.map { .text(time($0)) },
            "descriptors": document(overload.descriptors), "memory": document(overload.memory),
            "escalations": .number(Int(overload.escalations)), "watchdog_miss": .number(Int(overload.watchdogMisses)),
            "watchdog_mega_miss": .number(Int(overload.watchdogMegaMisses)),
        ])
    }

    /// GET shows the level, POST sets it.
    func logging(_ request: AdminRequest) -> AdminResponse {
        let levels = ProcessLog.Level.allCases.map { "\($0)" }.joined(separator: ", ")
        guard request.method == .post else {
            return AdminResponse("level: \(logLevel)\nlevels: \(levels)\nset: curl -X POST 'http://ADDRESS/logging?level=debug'\n")
        }
        guard let word = request["level"] else {
            return AdminResponse(status: 400, "level: expected ?level= with one of \(levels), found nothing\n")
        }
        guard let level = ProcessLog.Level(word) else {
            return AdminResponse(status: 400, "level: expected one of \(levels), found another word\n")
        }
        var response = AdminResponse("level: \(level)\n")
        response.action = .setLogLevel(level)
        return response
    }

    func drain() -> AdminResponse {
        guard state != .draining else { return AdminResponse("already draining\n") }
        var response = AdminResponse("draining; the process ends when nothing is open, at the latest after \(duration(drainTime))\n")
        response.action = .drain
        return response
    }

    func quit() -> AdminResponse {
        var response = AdminResponse("ending now\n")
        response.action = .quit
        return response
    }
}
