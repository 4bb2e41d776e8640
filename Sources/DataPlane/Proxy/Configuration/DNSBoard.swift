import Base
import Resolver
import Synchronization
import Telemetry

/// What is known of the names that are followed, for whoever wants to look, from any thread.
final class DNSBoard: Sendable {
    /// One name: for the admin interface.
    struct NameReport: Sendable {
        var name: String
        var family: LookupFamily
        var state = NameRefresh.State.pending
        var addresses: [IPAddress] = []
        /// Of the last good answer.
        var ttl: Nanoseconds?
        /// When that answer came; nil = never.
        var answeredAt: Instant?
        /// In a row, up to now.
        var failures = 0
        var lastError: ResolveError?
        var lookups: UInt64 = 0
        /// Since the name is followed, by `ResolveError.label`.
        var failedLookups: [String: UInt64] = [:]
    }

    private struct ClusterCounts {
        var attempts: UInt64 = 0
        var failures: UInt64 = 0
    }

    private struct State {
        var names: [DNSName.Key: NameReport] = [:]
        var clusters: [String: ClusterCounts] = [:]
    }

    private let state = Mutex(State())

    /// By name.
    var report: [NameReport] {
        state.withLock { $0.names.values.sorted { ($0.name, $0.family.rawValue) < ($1.name, $1.family.rawValue) } }
    }

    /// From here on these are followed, and no others.
    func keep(names: Set<DNSName.Key>, clusters: Set<String>) {
        state.withLock { state in
            state.names = state.names.filter { names.contains($0.key) }
            for key in names where state.names[key] == nil { state.names[key] = NameReport(name: key.name, family: key.family) }
            state.clusters = state.clusters.filter { clusters.contains($0.key) }
            for name in clusters where state.clusters[name] == nil { state.clusters[name] = ClusterCounts() }
        }
    }

    func record(_ name: DNSName, _ result: Result<Answer, ResolveError>, clusters: [String]) {
        let refresh = name.refresh
        state.withLock { state in
            var report = state.names[name.key] ?? NameReport(name: name.key.name, family: name.key.family)
            report.state = refresh.state
            report.addresses = refresh.addresses
            report.ttl = refresh.ttl
            report.answeredAt = refresh.answeredAt
            report.failures = refresh.failures
            report.lastError = refresh.lastError
            report.lookups += 1
            if let error = refresh.lastError { report.failedLookups[error.label, default: 0] += 1 }
            state.names[name.key] = report
            for cluster in clusters {
                state.clusters[cluster, default: ClusterCounts()].attempts += 1
                if refresh.lastError != nil { state.clusters[cluster, default: ClusterCounts()].failures += 1 }
            }
        }
    }

    /// For `StatsRegistry.addProvider`. Envoy's counters go by cluster: one lookup counts for every cluster that uses the name.
    func scrape(into samples: inout ScrapeSamples, now: Instant) {
        let (names, clusters) = state.withLock { (Array($0.names.values), $0.clusters) }
        for (name, counts) in clusters {
            samples.add(.updateAttempt, counts.attempts, labels: [name])
            samples.add(.updateSuccess, counts.attempts - counts.failures, labels: [name])
            samples.add(.updateFailure, counts.failures, labels: [name])
        }
        for name in names {
            let labels = [name.name, name.family.rawValue]
            samples.add(.dnsAddresses, name.addresses.count, labels: labels)
            samples.add(.dnsStale, name.state == .stale ? 1 : 0, labels: labels)
            samples.add(.dnsLookupsTotal, name.lookups, labels: labels)
            if let answeredAt = name.answeredAt { samples.add(.dnsAge, (now - answeredAt).seconds, labels: labels) }
            for (reason, count) in name.failedLookups { samples.add(.dnsFailuresTotal, count, labels: labels + [reason]) }
        }
    }
}
