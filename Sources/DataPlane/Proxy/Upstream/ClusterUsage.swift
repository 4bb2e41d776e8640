import Synchronization

/// How much of a cluster's limits (envoy.config.cluster.v3.CircuitBreakers) all workers together use. It survives new snapshots.
final class ClusterUsage: Sendable {
    struct Count: ~Copyable {
        private let count = Atomic<Int>(0)

        var value: Int { count.load(ordering: .relaxed) }

        /// False: it would be more than the limit.
        func take(limit: UInt32?) -> Bool {
            let new = count.add(1, ordering: .relaxed).newValue
            guard let limit, new > Int(limit) else { return true }
            count.subtract(1, ordering: .relaxed)
            return false
        }

        func add() {
            count.add(1, ordering: .relaxed)
        }

        func give() {
            count.subtract(1, ordering: .relaxed)
        }
    }

    /// From admission to the end of the response; counted only while max_requests is set, for workers share the atomic.
    let requests = Count()
    /// Requests that wait for a connection.
    let pending = Count()
    let connections = Count()
}
