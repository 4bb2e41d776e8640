import Synchronization

/// The events of all clusters of the process: a bounded queue to the thread that writes the log, and the last ones for the admin page.
///
/// Its lock is taken only when there is an event to tell, and when one reads.
public final class OutlierEventLog: Sendable {
    /// What the admin page shows.
    public static let recentCapacity = 256
    /// What waits for the log. A thousand hosts can fail at once between two turns of the writing thread; beyond that one counts.
    public static let pendingCapacity = 1024

    private struct State {
        var pending: [OutlierEvent] = []
        var recent: [OutlierEvent] = []
        /// Where the oldest of a full `recent` stands.
        var oldest = 0
        var dropped: UInt64 = 0
    }

    private let state = Mutex(State())
    private let notify: (@Sendable () -> Void)?

    /// - Parameter notify: called after an event was appended, on the thread that decided it, so that the writing thread wakes up.
    public init(notify: (@Sendable () -> Void)? = nil) {
        self.notify = notify
    }

    /// The events since the last call, in order.
    public func drain() -> [OutlierEvent] {
        state.withLock { state in
            var drained: [OutlierEvent] = []
            swap(&drained, &state.pending)
            return drained
        }
    }

    /// The last events, oldest first.
    public var recent: [OutlierEvent] {
        state.withLock { Array($0.recent[$0.oldest...] + $0.recent[..<$0.oldest]) }
    }

    /// Events that did not fit into the queue (they are in `recent`).
    public var dropped: UInt64 {
        state.withLock { $0.dropped }
    }

    public func append(_ event: OutlierEvent) {
        state.withLock { state in
            if state.pending.count < Self.pendingCapacity {
                state.pending.append(event)
            } else {
                state.dropped += 1
            }
            if state.recent.count < Self.recentCapacity {
                state.recent.append(event)
            } else {
                state.recent[state.oldest] = event
                state.oldest = (state.oldest + 1) % Self.recentCapacity
            }
        }
        notify?()
    }
}
