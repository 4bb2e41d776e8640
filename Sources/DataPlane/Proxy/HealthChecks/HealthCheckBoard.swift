import Base
import ProxyConfig
import Resilience

/// What is known of health checks, for the admin pages and the metrics. Confined to the supervisor's thread.
final class HealthCheckBoard {
    /// One endpoint.
    struct HostReport {
        var standing: HealthCheckState.Standing
        /// Results in a row that speak against it.
        var contrary: UInt32
        /// Nil: none has ended.
        var last: Last?
    }

    struct Last {
        var result: HealthCheckResult
        /// For people: `status 500`.
        var seen: String
        var at: Instant
        /// From the begin of the connection to the answer.
        var elapsed: Nanoseconds
    }

    /// Of a cluster, since its checks began.
    struct Counts {
        var attempts: UInt64 = 0
        var successes: UInt64 = 0
        var failures: UInt64 = 0
        /// Of the failures: no answer at all.
        var networkFailures: UInt64 = 0
    }

    struct ClusterReport {
        var check: HealthCheck
        var counts = Counts()
        var hosts: [SocketAddress: HostReport] = [:]
    }

    var clusters: [String: ClusterReport] = [:]
}

extension HealthCheck {
    /// For people: `http GET /ping every 10 s, out after 2, in after 3`.
    var words: String {
        let what =
            switch kind {
            case .http(_, let path): "http GET \(path)"
            case .http2(_, let path): "http2 GET \(path)"
            case .grpc: "grpc.health.v1"
            case .tcp: "tcp connect"
            }
        let place = port.map { " on port \($0)" } ?? ""
        return "\(what)\(place) every \(Words.span(Nanoseconds(interval))), at most \(Words.span(Nanoseconds(timeout))); "
            + "\(unhealthyThreshold) in a row take out, \(healthyThreshold) let in"
    }
}
