public import Base
import CLinux

/// What epoll says of a descriptor.
public struct Readiness: OptionSet, Sendable {
    public var rawValue: UInt32

    public init(rawValue: UInt32) {
        self.rawValue = rawValue
    }

    public static let readable = Readiness(rawValue: EPOLLIN.rawValue)
    public static let writable = Readiness(rawValue: EPOLLOUT.rawValue)
    /// The other side has sent its last byte (FIN).
    public static let readClosed = Readiness(rawValue: EPOLLRDHUP.rawValue)
    /// Both directions are gone.
    public static let hangup = Readiness(rawValue: EPOLLHUP.rawValue)
    public static let error = Readiness(rawValue: EPOLLERR.rawValue)
}

/// A descriptor that a loop watches. Subclass it and override `ready`.
///
/// The loop names it by slot and generation, so an event that was already on its way when the source closed finds nothing. Closing is
/// explicit (`EventLoop.close`): the loop owns the source until then.
open class EventSource: Timed {
    /// -1 once closed.
    public internal(set) final var descriptor: CInt
    final var slot: Int32 = -1

    /// Takes ownership of `descriptor`.
    public init(adopting descriptor: CInt) {
        precondition(descriptor >= 0, "adopting descriptor \(descriptor)")
        self.descriptor = descriptor
    }

    public final var isClosed: Bool { descriptor < 0 }

    open func ready(_ readiness: Readiness) {}
}

/// One thread's epoll set, clock and timers. Everything on it is confined to that thread; only `Mailbox` talks to it from outside.
@safe public final class EventLoop {
    private struct Slot {
        var source: EventSource?
        var generation: UInt32
    }

    /// The time at which this turn began, read once.
    public private(set) var now: Instant
    /// Called after each batch of events and timers, before the loop sleeps: where what was gathered is flushed.
    public var onTurnEnd: (() -> Void)?
    /// How long the turn before took, from waking to sleeping: what an event may have waited for others.
    public private(set) var lastTurn = Nanoseconds.zero

    /// For whoever watches this loop from another thread.
    public let heartbeat: Heartbeat

    private let epoll: CInt
    private let events: UnsafeMutablePointer<epoll_event>
    private static let batch = 256
    private var slots: [Slot] = []
    private var freeSlots: [Int32] = []
    private var wheel: TimerWheel
    /// Closed in this batch: kept alive until it ends, since callers may be inside them.
    private var closed: [EventSource] = []
    /// Sources that had to stop before they were done, for the next turn.
    private var again: [EventSource] = []
    private var isStopped = false

    /// Ends the process where the machine has no epoll to give: nothing can run without.
    public init(heartbeat: Heartbeat = Heartbeat()) {
        self.heartbeat = heartbeat
        epoll = clinux_epoll_create()
        precondition(epoll >= 0, "epoll_create1: \(SystemError(-epoll))")
        unsafe events = .allocate(capacity: Self.batch)
        let start = Clock.now()
        now = start
        wheel = TimerWheel(now: start)
    }

    deinit {
        clinux_close(epoll)
        unsafe events.deallocate()
    }

    /// Watches `source` edge-triggered, for reading and writing at once: back-pressure then needs no further call.
    ///
    /// With `isListener` it is level-triggered and for reading only, so that connections left in the queue are reported again.
    public func add(_ source: EventSource, isListener: Bool = false) throws(SystemError) {
        try add(
            source,
            flags: isListener ? EPOLLIN.rawValue : EPOLLIN.rawValue | EPOLLOUT.rawValue | EPOLLRDHUP.rawValue | EPOLLET.rawValue)
    }

    private func add(_ source: EventSource, flags: UInt32) throws(SystemError) {
        let index: Int32
        if let free = freeSlots.popLast() {
            index = free
        } else {
            index = Int32(slots.count)
            slots.append(Slot(source: nil, generation: 0))
        }
        let token = UInt64(slots[Int(index)].generation) << 32 | UInt64(index)
        let result = clinux_epoll_add(epoll, source.descriptor, flags, token)
        guard result >= 0 else {
            freeSlots.append(index)
            throw SystemError(-result)
        }
        slots[Int(index)].source = source
        source.slot = index
    }

    /// Closes the descriptor and forgets the source; a second call does nothing. Events already fetched for it find nothing.
    public func close(_ source: EventSource) {
        guard source.descriptor >= 0 else { return }
        wheel.cancel(source)
        clinux_close(source.descriptor)
        release(source)
    }

    private func release(_ source: EventSource) {
        source.descriptor = -1
        if source.slot >= 0 {
            slots[Int(source.slot)].source = nil
            slots[Int(source.slot)].generation &+= 1
            freeSlots.append(source.slot)
            source.slot = -1
        }
        closed.append(source)
    }

    /// Makes `successor`, which has adopted the same descriptor, take the place of `source`; to the loop that one is closed.
    public func replace(_ source: EventSource, with successor: EventSource) {
        precondition(source.slot >= 0 && source.descriptor == successor.descriptor, "not the same descriptor")
        wheel.cancel(source)
        slots[Int(source.slot)].source = successor
        successor.slot = source.slot
        source.slot = -1
        source.descriptor = -1
        closed.append(source)
    }

    /// Watches a source whose descriptor somebody else owns (a C library), level-triggered and only for `interest`, or changes what it is
    /// watched for. It ends with `forget`, before the owner closes the descriptor.
    public func watch(_ source: EventSource, for interest: Readiness) throws(SystemError) {
        if source.slot < 0 { return try add(source, flags: interest.rawValue) }
        let result = clinux_epoll_modify(epoll, source.descriptor, interest.rawValue, token(source))
        guard result >= 0 else { throw SystemError(-result) }
    }

    /// Stops watching, and leaves the descriptor open: it belongs to somebody else. To the loop the source is closed.
    public func forget(_ source: EventSource) {
        guard source.descriptor >= 0 else { return }
        wheel.cancel(source)
        if source.slot >= 0 { _ = clinux_epoll_remove(epoll, source.descriptor) }
        release(source)
    }

    /// Stops reporting a listener's waiting connections; they stay in the kernel's queue.
    public func pauseListener(_ source: EventSource) {
        guard source.slot >= 0 else { return }
        _ = clinux_epoll_modify(epoll, source.descriptor, 0, token(source))
    }

    public func resumeListener(_ source: EventSource) {
        guard source.slot >= 0 else { return }
        _ = clinux_epoll_modify(epoll, source.descriptor, EPOLLIN.rawValue, token(source))
    }

    private func token(_ source: EventSource) -> UInt64 {
        UInt64(slots[Int(source.slot)].generation) << 32 | UInt64(source.slot)
    }

    /// The number that the next descriptor of the process would get: the lowest that is free. All below it are open, so it says how many
    /// there are, at the least, and how far the limit is. Costs two system calls.
    public var nextDescriptor: CInt {
        let result = clinux_next_descriptor(epoll)
        return result >= 0 ? result : Descriptors.limit
    }

    /// Sets or moves the deadline; `.never` takes it away.
    public func setDeadline(_ object: Timed, _ deadline: Instant) {
        wheel.set(object, deadline)
    }

    /// Takes the object out of the wheel. Needed before the last reference to it goes, if a deadline was ever set.
    public func cancelDeadline(_ object: Timed) {
        wheel.cancel(object)
    }

    /// Calls `ready` with no readiness in the next turn, which begins without waiting: for a source that yields to others.
    public func callAgain(_ source: EventSource) {
        again.append(source)
    }

    /// Makes `run` return after the current batch.
    public func stop() {
        isStopped = true
    }

    /// Runs until `stop`.
    public func run() {
        heartbeat.attach()
        while !isStopped {
            turn(maximumWait: nil)
        }
    }

    /// Waits for events (at most `maximumWait`), handles one batch and what is due.
    public func turn(maximumWait: Nanoseconds?) {
        let count = unsafe clinux_epoll_wait(epoll, events, CInt(Self.batch), timeout(maximumWait))
        now = Clock.now()
        heartbeat.turnBegins(now)
        for index in 0..<max(0, Int(count)) {
            let event = unsafe events + index
            let token = unsafe clinux_epoll_token(event)
            let slot = slots[Int(token & 0xffff_ffff)]
            guard slot.generation == UInt32(token >> 32), let source = slot.source else { continue }
            heartbeat.handles(source.descriptor)
            source.ready(Readiness(rawValue: unsafe event.pointee.events))
        }
        if !again.isEmpty {
            let waiting = again
            again.removeAll(keepingCapacity: true)
            for source in waiting where !source.isClosed {
                heartbeat.handles(source.descriptor)
                source.ready([])
            }
        }
        heartbeat.handles(-1)
        while let due = wheel.nextExpired(now: now) {
            due.deadlineReached(now: now)
        }
        onTurnEnd?()
        if !closed.isEmpty { closed.removeAll(keepingCapacity: true) }
        lastTurn = Clock.now() - now
        heartbeat.turnEnds()
    }

    private func timeout(_ maximumWait: Nanoseconds?) -> CInt {
        guard again.isEmpty else { return 0 }
        var wait = maximumWait?.count ?? .max
        if let expiry = wheel.nextExpiry() { wait = min(wait, max(0, expiry.nanoseconds - now.nanoseconds)) }
        return wait == .max ? -1 : CInt(clamping: (wait + 999_999) / 1_000_000)
    }
}

/// The only reader of the machine's clocks.
public enum Clock {
    public static func now() -> Instant { Instant(nanoseconds: clinux_monotonic_ns()) }
    /// Nanoseconds since 1970-01-01T00:00:00Z.
    public static func realtime() -> Int64 { clinux_realtime_ns() }
}
