public import Base

/// One decision about an endpoint or a cluster: ejected, returned, ejection refused, panic begun or ended.
public struct OutlierEvent: Hashable, Sendable {
    public enum Action: String, Hashable, Sendable {
        case eject = "EJECT"
        case uneject = "UNEJECT"
        /// Ours: its time is over; probes find out whether it is well.
        case probe = "PROBE"
        /// Ours: an ejection that was due and refused.
        case suppressed = "SUPPRESSED"
        /// Ours: too few endpoints available, so health is ignored.
        case panicOn = "PANIC_ON"
        case panicOff = "PANIC_OFF"
        /// Ours: active health checks take an endpoint out, or let it in.
        case checkFailed = "HEALTH_CHECK_FAILED"
        case checkPassed = "HEALTH_CHECK_PASSED"
    }

    public enum Reason: String, CaseIterable, Hashable, Sendable {
        /// The run of errors reached the threshold.
        case consecutiveErrors = "consecutive_errors"
        case ejectionTimeOver = "ejection_time_over"
        /// Outlier detection was taken out of the configuration.
        case detectionOff = "detection_off"
        /// The address left the cluster while it was ejected.
        case hostLeft = "host_left"
        /// As many endpoints are ejected as max_ejection_percent allows.
        case maxEjectionPercent = "max_ejection_percent"
        /// max_ejection_percent is 0.
        case detectOnly = "detect_only"
        /// enforcing_consecutive_5xx let it go.
        case enforcingPercent = "enforcing_percent"
        /// So many of its last calls failed.
        case failureRate = "failure_rate"
        /// So many of its last calls were slow.
        case slowRate = "slow_rate"
        /// Its siblings did much better in the last interval.
        case successRate = "success_rate"
        /// Too many calls of the last interval failed.
        case failurePercentage = "failure_percentage"
        case probeFailed = "probe_failed"
        case probesPassed = "probes_passed"
        /// A check of another kind found it well.
        case checkPassed = "check_passed"
        /// The first active health check of an endpoint decides at once.
        case firstCheck = "first_check"
        /// So many active health checks failed in a row.
        case unhealthyThreshold = "unhealthy_threshold"
        /// So many passed.
        case healthyThreshold = "healthy_threshold"
        /// By hand.
        case forced = "forced"
        /// What was done by hand was taken back, or its time is over.
        case released = "released"
        /// The median of its siblings is about as bad: not this endpoint's fault.
        case siblingsAlike = "siblings_alike"
        /// The policy only observes.
        case observeOnly = "observe_only"
        case availableBelowThreshold = "available_below_threshold"
        case availableAgain = "available_again"
    }

    /// What an event about an endpoint says of it.
    public struct Host: Hashable, Sendable {
        public var address: SocketAddress
        /// Ejections of this address so far.
        public var ejections: UInt32
        /// Since the last ejection or return; nil if there was none.
        public var sinceLastAction: Nanoseconds?
        /// EJECT only: how long; it ends at the sweep after.
        public var ejectionTime: Nanoseconds?
        /// SUPPRESSED only: how many refusals this event stands for.
        public var refusals: UInt32
        var history: OutcomeHistory
        /// HEALTH_CHECK_... only: what the last check found, for people.
        public var seen: String?

        /// The last eight outcomes, oldest first.
        public var lastOutcomes: [String] { history.outcomes.map(\.name) }
    }

    public enum Subject: Hashable, Sendable {
        case host(Host)
        /// One priority of the cluster.
        case priority(UInt32, available: Int, total: Int)
        /// The breaker of the cluster as a service.
        case service(BreakerState.Phase)
    }

    public var action: Action
    public var reason: Reason
    public var cluster: String
    public var instant: Instant
    public var subject: Subject
    /// What saw it: says which of the schema's types and messages an EJECT or SUPPRESSED is.
    var trigger = BreakerReason.consecutiveErrors

    public var host: Host? {
        if case .host(let host) = subject { host } else { nil }
    }

    /// Whether the decision took effect.
    public var isEnforced: Bool { action != .suppressed }

    fileprivate var isCheck: Bool { action == .checkFailed || action == .checkPassed }

    /// The name in `OutlierEjectionType`, and the member of the message's oneof.
    fileprivate var kind: (type: StaticString, member: StaticString) {
        // No name of Envoy's: its health checks have a log of their own.
        if isCheck { return ("HEALTH_CHECK", "") }
        return switch trigger {
        case .successRate: ("SUCCESS_RATE", ",\"eject_success_rate_event\":{}")
        case .failurePercentage: ("FAILURE_PERCENTAGE", ",\"eject_failure_percentage_event\":{}")
        default: ("CONSECUTIVE_5XX", ",\"eject_consecutive_event\":{}")
        }
    }
}

extension OutlierEvent {
    /// A move of a service's breaker.
    public init(cluster: String, _ change: CircuitBreaker.Change) {
        action =
            switch change.new.phase {
            case _ where !change.isEnforced: .suppressed
            case .open, .forcedOpen: .eject
            case .halfOpen: .probe
            case .closed, .ramping, .disabled, .observing, .departed: .uneject
            }
        reason = change.isEnforced ? Reason(change.reason) : .observeOnly
        self.cluster = cluster
        instant = change.instant
        subject = .service(change.new.phase)
        trigger = change.reason
    }

    /// One line of JSON without its line feed: envoy.data.cluster.v3.OutlierDetectionEvent in proto3's JSON mapping (64-bit numbers are
    /// strings), and our `reason`, `ejection_secs`, `refusals`, `seen`, `last_outcomes`, `priority`, `available_hosts`, `total_hosts`.
    ///
    /// - Parameter wallClock: nanoseconds from 1970 at the instant 0: what to add to an `Instant` for the time of day.
    public func writeJSON(into line: inout ByteBuffer, wallClock: Nanoseconds) {
        line.append("{\"type\":\"")
        line.append(kind.type)
        line.append("\",\"timestamp\":\"")
        line.append(rfc3339: instant.nanoseconds &+ wallClock.count)
        line.append("\",\"cluster_name\":\"")
        line.append(escaping: cluster)
        line.append("\",\"action\":\"")
        line.append(action.rawValue)
        line.append("\",\"enforced\":")
        line.append(isEnforced ? "true" : "false")
        line.append(",\"reason\":\"")
        line.append(reason.rawValue)
        line.append("\"")
        switch subject {
        case .host(let host):
            host.writeMembers(into: &line)
            if action == .eject || action == .suppressed { line.append(kind.member) }
        case .priority(let priority, let available, let total):
            line.append(",\"priority\":\(priority),\"available_hosts\":\(available),\"total_hosts\":\(total)")
        case .service(let phase):
            line.append(",\"breaker\":\"service\",\"state\":\"\(phase.name)\"")
        }
        line.append("}")
    }
}

extension OutlierEvent.Host {
    fileprivate func writeMembers(into line: inout ByteBuffer) {
        line.append(",\"upstream_url\":\"\(address)\",\"num_ejections\":\(ejections)")
        if let sinceLastAction { line.append(",\"secs_since_last_action\":\"\(sinceLastAction.count / 1_000_000_000)\"") }
        if let ejectionTime {
            line.append(",\"ejection_secs\":\(ejectionTime.count / 1_000_000_000)")
        }
        if refusals > 0 { line.append(",\"refusals\":\(refusals)") }
        if let seen {
            line.append(",\"seen\":\"")
            line.append(escaping: seen)
            line.append("\"")
        }
        line.append(",\"last_outcomes\":[")
        for (index, outcome) in lastOutcomes.enumerated() {
            line.append(index == 0 ? "\"\(outcome)\"" : ",\"\(outcome)\"")
        }
        line.append("]")
    }
}

extension ByteBuffer {
    /// The inside of a JSON string (RFC 8259 §7).
    fileprivate mutating func append(escaping text: String) {
        for byte in text.utf8 {
            switch byte {
            case UInt8(ascii: "\""), UInt8(ascii: "\\"):
                append(UInt8(ascii: "\\"))
                append(byte)
            case 0..<0x20:
                append("\\u00")
                append(byte < 0x10 ? "0" : "1")
                append(hexadecimal: Int(byte & 15))
            default:
                append(byte)
            }
        }
    }

    /// `2024-02-29T12:00:00.123Z` (RFC 3339 §5.6) of nanoseconds from 1970.
    fileprivate mutating func append(rfc3339 nanoseconds: Int64) {
        let milliseconds = max(nanoseconds, 0) / 1_000_000
        let (days, ofDay) = milliseconds.quotientAndRemainder(dividingBy: 86_400_000)
        let (year, month, day) = civilDate(daysFrom1970: days)
        append(padded: year, 4)
        append("-")
        append(padded: month, 2)
        append("-")
        append(padded: day, 2)
        append("T")
        append(padded: ofDay / 3_600_000, 2)
        append(":")
        append(padded: ofDay / 60_000 % 60, 2)
        append(":")
        append(padded: ofDay / 1000 % 60, 2)
        append(".")
        append(padded: ofDay % 1000, 3)
        append("Z")
    }

    private mutating func append(padded number: Int64, _ width: Int) {
        let digits = String(number)
        append(String(repeating: "0", count: max(0, width - digits.utf8.count)) + digits)
    }
}

/// The Gregorian date of a day, by counting in eras of 400 years that begin on 1 March, so that the leap day comes last.
private func civilDate(daysFrom1970 days: Int64) -> (year: Int64, month: Int64, day: Int64) {
    let (era, dayOfEra) = (days + 719_468).quotientAndRemainder(dividingBy: 146_097)
    let yearOfEra = (dayOfEra - dayOfEra / 1460 + dayOfEra / 36_524 - dayOfEra / 146_096) / 365
    let dayOfYear = dayOfEra - (365 * yearOfEra + yearOfEra / 4 - yearOfEra / 100)
    let monthFromMarch = (5 * dayOfYear + 2) / 153
    let month = monthFromMarch < 10 ? monthFromMarch + 3 : monthFromMarch - 9
    return (yearOfEra + era * 400 + (month <= 2 ? 1 : 0), month, dayOfYear - (153 * monthFromMarch + 2) / 5 + 1)
}
