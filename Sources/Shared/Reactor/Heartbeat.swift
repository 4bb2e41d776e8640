public import Base
import CLinux
import Synchronization

/// What a loop does at the moment, as others see it: when its turn began, and with which descriptor it is busy. The loop's thread writes
/// with plain stores; a watcher reads.
public final class Heartbeat: Sendable {
    private static let waiting: Int64 = .min

    private let turn = Atomic<Int64>(waiting)
    private let descriptor = Atomic<CInt>(-1)
    private let thread = Atomic<CInt>(0)

    public init() {}

    // MARK: The loop's side

    func attach() {
        thread.store(clinux_thread_id(), ordering: .relaxed)
    }

    @inline(__always)
    func turnBegins(_ now: Instant) {
        turn.store(now.nanoseconds, ordering: .relaxed)
    }

    /// -1: a timer, or what is done at the end of a turn.
    @inline(__always)
    func handles(_ descriptor: CInt) {
        self.descriptor.store(descriptor, ordering: .relaxed)
    }

    @inline(__always)
    func turnEnds() {
        turn.store(Self.waiting, ordering: .relaxed)
    }

    // MARK: The watcher's side

    /// When the turn began that is not over; nil: the loop waits for events.
    public var turnBegan: Instant? {
        let value = turn.load(ordering: .relaxed)
        return value == Self.waiting ? nil : Instant(nanoseconds: value)
    }

    /// What it is busy with, for people: `descriptor 17 (127.0.0.1:15001 to 127.0.0.1:51000)`.
    public var activity: String {
        let number = descriptor.load(ordering: .relaxed)
        guard number >= 0 else { return "a timer, or the end of its turn" }
        guard let local = Socket.localAddress(number) else { return "descriptor \(number)" }
        let peer = Socket.peerAddress(number).map { " to \($0)" } ?? ""
        return "descriptor \(number) (\(local)\(peer))"
    }

    /// Makes the loop's thread write its stack to standard error. False where it does not even take a signal.
    public func writeStack() -> Bool {
        clinux_write_stack(thread.load(ordering: .relaxed)) == 0
    }

    /// What the kernel says of the thread: its state, and the function that it waits in, if it does.
    public var kernelState: String {
        let number = thread.load(ordering: .relaxed)
        var text = [CChar](repeating: 0, count: 128)
        guard unsafe clinux_thread_state(number, &text, text.count) >= 0 else { return "unknown" }
        return String(decoding: text.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }

    /// Call it once, before it is needed.
    public static func prepareStacks() {
        _ = clinux_watch_stacks()
    }
}
