import Base
import ConfigText
import ProxyConfig
import Resilience

/// `/breakers`: every breaker, and what operators do to them.
extension AdminView {
    func breakers() -> AdminResponse {
        let facts = clusters.flatMap { $0.breakers(now: now) }
        guard !facts.isEmpty else { return AdminResponse("There are no breakers: no cluster has endpoints.\n") }
        var table = TextTable([.left, .left, .left, .left, .right, .right, .right, .right, .right, .left])
        table.add(["CLUSTER", "ENDPOINT", "STATE", "REASON", "SINCE", "UNTIL", "RUN", "FAILED", "SLOW", "CLOSES"])
        for one in facts {
            let isWindowed = one.calls > 0
            table.add([
                one.cluster, one.endpoint.map { "\($0)" } ?? "(service)", one.state.phase.name, one.reason ?? "-",
                one.since.map { "\(Words.span(now - $0)) ago" } ?? "-", one.until.map { "in \(Words.span(max(.zero, $0 - now)))" } ?? "-",
                "\(one.run)", isWindowed ? "\(one.failures) of \(one.calls)" : "-", isWindowed ? "\(one.slow) of \(one.calls)" : "-",
                one.closes ?? "-",
            ])
        }
        return AdminResponse(table.text)
    }

    func breakersJSON() -> AdminResponse {
        AdminResponse(.entries(["breakers": .list(clusters.flatMap { $0.breakers(now: now) }.map(document))]))
    }

    private func document(_ facts: BreakerFacts) -> Document {
        .entries([
            "cluster": .text(facts.cluster), "endpoint": facts.endpoint.map { .text("\($0)") },
            "level": .text(facts.endpoint == nil ? "service" : "endpoint"), "state": .text(facts.state.phase.name),
            "reason": facts.reason.map { .text($0) }, "since": facts.since.map { .text(time($0)) },
            "until": facts.until.map { .text(time($0)) }, "consecutive_errors": .number(facts.run), "window_calls": .number(facts.calls),
            "window_failures": .number(facts.failures), "window_slow": .number(facts.slow), "closes": facts.closes.map { .text($0) },
        ])
    }

    // MARK: By hand

    func forceBreaker(_ request: AdminRequest) -> AdminResponse {
        guard let action = BreakerOverride.Action(words: request["state"] ?? "") else {
            return refusal("state: expected open, disable or observe", request["state"])
        }
        let (shortest, longest) = (Duration.seconds(1), BreakerOverride.longestDuration)
        let time = request["for"].map { Words.duration($0) } ?? BreakerOverride.defaultDuration
        guard let time, time >= shortest, time <= longest else {
            return refusal("for: expected a time from 1s through 24h", request["for"])
        }
        return withTarget(request) { target in
            let until = now + time
            let override = BreakerOverride(target, action, until: (until.nanoseconds &+ wallClock.count) / 1_000_000)
            var response = AdminResponse("\(target.words): \(action.phase.name) until \(self.time(until))\n")
            response.action = .forceBreaker(override)
            return response
        }
    }

    func releaseBreaker(_ request: AdminRequest) -> AdminResponse {
        withTarget(request) { target in
            var response = AdminResponse("\(target.words): decides for itself again\n")
            response.action = .releaseBreaker(target)
            return response
        }
    }

    private func withTarget(_ request: AdminRequest, _ body: (BreakerOverride.Target) -> AdminResponse) -> AdminResponse {
        guard let cluster = clusters.first(where: { $0.name == request["cluster"] }) else {
            return refusal("cluster: expected one of \(clusters.map(\.name).joined(separator: ", "))", request["cluster"])
        }
        guard let text = request["endpoint"] else { return body(BreakerOverride.Target(cluster: cluster.name)) }
        let known = cluster.detector.hosts.map(\.address)
        guard let endpoint = SocketAddress(text), known.contains(endpoint) else {
            return refusal("endpoint: expected one of \(known.map { "\($0)" }.joined(separator: ", "))", text)
        }
        return body(BreakerOverride.Target(cluster: cluster.name, endpoint: endpoint))
    }

    private func refusal(_ expected: String, _ found: String?) -> AdminResponse {
        let shown = found.map {
            "\"\($0.unicodeScalars.prefix(60).map { $0.value >= 0x20 && $0.value < 0x7f ? String($0) : "?" }.joined())\""
        }
        return AdminResponse(status: 400, "\(expected), found \(shown ?? "nothing")\n")
    }
}

extension Words {
    /// `90s`, `10m`, `2h`, `1h30m`; nil for anything else.
    static func duration(_ text: String) -> Duration? {
        var total: Int64 = 0
        var number: Int64?
        for byte in text.utf8.prefix(16) {
            switch byte {
            case UInt8(ascii: "0")...UInt8(ascii: "9"):
                let next = (number ?? 0) * 10 + Int64(byte - 0x30)
                guard next < 1_000_000 else { return nil }
                number = next
            case UInt8(ascii: "s"), UInt8(ascii: "m"), UInt8(ascii: "h"):
                guard let count = number else { return nil }
                total += count * (byte == UInt8(ascii: "s") ? 1 : byte == UInt8(ascii: "m") ? 60 : 3600)
                number = nil
            default: return nil
            }
        }
        return number == nil && !text.isEmpty && text.utf8.count <= 16 ? .seconds(total) : nil
    }
}
