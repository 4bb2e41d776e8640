import Base
import Reactor
import Resilience
import Telemetry

/// What a worker gives up when the process is overloaded, in the order of `OverloadLevel`.
struct WorkerOverload {
    var order = OverloadOrder()
    /// Nothing idle was left to close: who wants in waits in the kernel's queue.
    var isFull = false
    fileprivate var progressTimer: LoopTimer?
    fileprivate var progressIsChecked = false
    fileprivate var lastCheck = Instant.never
}

extension Worker {
    /// New requests are answered with 503 at once.
    @inline(__always)
    var shedsRequests: Bool { overload.order.level >= .refuse }

    /// A response is its connection's last: the proxy drains, or connections are too many.
    @inline(__always)
    var endsKeepAlive: Bool { isDraining || overload.order.level >= .endKeepAlive }

    func follow(_ order: OverloadOrder) {
        overload.order = order
        guard order.level >= .trim else {
            overload.isFull = false
            return
        }
        var wanted = order.descriptorsToFree
        if order.memoryLevel >= .trim { wanted = max(wanted, Self.idleBatch) }
        if wanted > 0 {
            closeIdleUpstreams()
            let found = closeOldestIdle(wanted)
            // A connection costs little memory, and who waits unheard is worse off than with a 503: so memory closes the door last.
            overload.isFull = found == 0 && (order.descriptorsToFree > 0 || order.memoryLevel >= .reset)
        }
        if order.bytesToReset > 0 { resetHeaviest(order.bytesToReset) }
    }

    // MARK: Idle connections

    /// A new connection took a descriptor beyond the line: an idle one goes. False: there is none.
    func makeRoom() -> Bool {
        overload.isFull = closeOldestIdle(Self.idleBatch) == 0
        return !overload.isFull
    }

    /// Whether one more may be let in, after it could not.
    func hasRoomAgain() -> Bool {
        guard overload.order.memoryLevel < .reset || !overload.isFull else { return false }
        guard overload.order.descriptorLine != .max else { return true }
        if loop.nextDescriptor < overload.order.descriptorLine {
            overload.isFull = false
            return true
        }
        return makeRoom()
    }

    /// Finding the oldest looks at all connections, so several go at once: a rush of new ones then costs each a few looks.
    private static let idleBatch = 32
    /// A request may be on its way, above all on a connection that is new.
    private static let youngestIdle = Nanoseconds.milliseconds(500)

    private func closeOldestIdle(_ count: Int) -> Int {
        var idle: [(since: Instant, connection: DownstreamConnection)] = []
        let latest = Instant(nanoseconds: loop.now.nanoseconds - Self.youngestIdle.count)
        forEachDownstream { connection in
            if let since = connection.idleSince, since <= latest { idle.append((since, connection)) }
        }
        guard !idle.isEmpty else { return 0 }
        idle.sort { $0.since < $1.since }
        // At least a thirty-second part, for the same reason.
        var closed = 0
        for (_, connection) in idle.prefix(max(count, idle.count / 32)) where !connection.hasUnreadInput {
            connection.closeIdle()
            closed += 1
        }
        stats.overloadIdleClosed.add(UInt64(closed))
        return closed
    }

    // MARK: Streams

    /// Resets streams until so many buffered bytes are gone, those with the most first.
    private func resetHeaviest(_ bytes: Int) {
        var heavy: [(bytes: Int, connection: DownstreamConnection)] = []
        forEachDownstream { connection in
            let bytes = connection.bufferedBytes
            if bytes > 0 { heavy.append((bytes, connection)) }
        }
        heavy.sort { $0.bytes > $1.bytes }
        var freed = 0
        for (_, connection) in heavy where freed < bytes {
            let released = connection.resetHeaviest()
            guard released > 0 else { continue }
            freed += released
            stats.overloadStreamsReset.increment()
        }
    }

    // MARK: Bodies that hardly move

    private static let progressInterval = Nanoseconds.seconds(5)

    /// A stream has begun: look at the bodies' progress from now on, for as long as there are streams.
    @inline(__always)
    func watchProgress() {
        if !overload.progressIsChecked { startProgressChecks() }
    }

    private func startProgressChecks() {
        overload.progressIsChecked = true
        let timer = overload.progressTimer ?? LoopTimer { [unowned self] now in checkProgress(now) }
        overload.progressTimer = timer
        overload.lastCheck = loop.now
        loop.setDeadline(timer, loop.now + Self.progressInterval)
    }

    private func checkProgress(_ now: Instant) {
        guard stats.streamsActive.value > 0, let timer = overload.progressTimer else { return overload.progressIsChecked = false }
        let elapsed = now - overload.lastCheck
        overload.lastCheck = now
        if overload.order.minBodyRate > 0 {
            var slow: [DownstreamConnection] = []
            forEachDownstream { connection in
                if connection.hasSlowBody(elapsed: elapsed, rate: overload.order.minBodyRate) { slow.append(connection) }
            }
            for connection in slow { connection.endSlowBodies() }
        }
        loop.setDeadline(timer, now + Self.progressInterval)
    }
}
