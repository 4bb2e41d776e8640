import Base
import HTTP2
import ProxyConfig
import Reactor
import Telemetry

/// What both sides' HTTP/2 connections have in common: a session, whose output leaves once per turn of the loop.
///
/// A session is never called from inside itself: it records what it read as events, which the connection walks afterwards.
protocol HTTP2Connection: Connection {
    var session: HTTP2Session { get }
    /// It stands in the worker's list of those to be flushed.
    var isDirty: Bool { get set }
    var isFlushing: Bool { get set }
    /// This stream's queue has room again.
    func streamDrained(_ wire: HTTP2Stream)
    /// Goes through the session's events. `bytes` are those that `receive` was given; empty after a flush.
    func walk(_ bytes: UnsafeRawBufferPointer)
    /// The connection is over; GOAWAY is written.
    func sessionFailed(_ error: HTTP2Error)
    /// Nothing is waiting to be framed or written.
    func sessionFlushed()
}

extension HTTP2Connection {
    /// More than this is not framed ahead: what is framed can no longer be overtaken by another stream.
    private var framedAtOnce: Int { 128 * 1024 }

    /// Body bytes of one stream that wait to be framed; then its source is not read.
    static var highWater: Int { 64 * 1024 }

    /// All streams' output of this turn leaves in one write.
    func flushLater() {
        guard !isDirty else { return }
        isDirty = true
        worker.flushAtTurnEnd(self)
    }

    func flushSession() {
        isDirty = false
        guard !isClosed, !isFlushing else { return }
        isFlushing = true
        defer { isFlushing = false }
        var hasMore = true
        while hasMore, !isWriteBlocked, !isClosed {
            if session.wantsToWrite {
                prepareOutput()
                hasMore = session.flush(into: &output, limit: framedAtOnce)
            } else {
                hasMore = false
            }
            flush()
            if isConnecting || isHandshaking { break }
        }
        guard !isClosed else { return }
        tellDrainedStreams()
        // What could not be sent ends its stream: the endpoint has said GOAWAY meanwhile.
        if !isClosed, !session.events.isEmpty { unsafe walk(UnsafeRawBufferPointer(start: nil, count: 0)) }
        if !isClosed, let failure = session.failure { return sessionFailed(failure) }
        if !isClosed, !hasMore, !isWriteBlocked, !hasOutput { sessionFlushed() }
    }

    private func tellDrainedStreams() {
        guard !session.drainedStreams.isEmpty else { return }
        let drained = session.drainedStreams
        session.removeDrainedStreams()
        for wire in drained where !isClosed { streamDrained(wire) }
    }
}

/// How a connection finds out that the other side is gone, while streams are open.
struct KeepaliveTimes {
    var interval: Nanoseconds
    var timeout: Nanoseconds

    init?(_ options: HTTP2Options) {
        guard let keepalive = options.keepalive else { return nil }
        interval = Nanoseconds(keepalive.interval)
        timeout = Nanoseconds(keepalive.timeout)
    }
}

extension HTTP2Limits {
    init(_ options: HTTP2Options) {
        self.init()
        maxConcurrentStreams = Int(options.maxConcurrentStreams)
        initialStreamWindow = Int(options.initialStreamWindow)
        connectionWindow = Int(options.initialConnectionWindow)
        // A sidecar with every stream in use sends heads of a few KiB each.
        maxHeaderMemory = max(maxHeaderMemory, 8192 * maxConcurrentStreams)
    }

    /// Of callers' connections.
    init(_ configuration: HTTPConnectionManager) {
        self.init(configuration.http2)
        maxHeadBytes = configuration.maxHeaderBytes
        maxFields = configuration.maxHeaderCount
        allowsExtendedConnect = configuration.http2.allowsExtendedConnect && !configuration.upgradeTypes.isEmpty
    }

    /// Of connections to endpoints.
    init(_ cluster: Cluster) {
        self.init(cluster.http2)
    }
}

extension HTTP2Stats {
    func add(_ error: HTTP2Error) {
        switch error.reason {
        case .headTooLarge, .tooManyFields, .headersTakeTooMuch, .trailersTooLarge: headerOverflow.increment()
        case .tooManyContinuations: continuationFlood.increment()
        case .resetFlood: resetFlood.increment()
        case .provokedResetFlood: provokedResetFlood.increment()
        case .pingFlood: pingFlood.increment()
        case .settingsFlood: settingsFlood.increment()
        case .priorityFlood: inboundPriorityFramesFlood.increment()
        case .windowUpdateFlood: inboundWindowUpdateFramesFlood.increment()
        case .emptyFrameFlood, .unknownFrameFlood: inboundEmptyFramesFlood.increment()
        case .outboundFlood: outboundControlFlood.increment()
        case .protocolViolation, .badPreface, .headTimeout, .outOfMemory, .libraryFailure: break
        }
    }

    func add(_ counters: HTTP2Counters) {
        rxReset.add(UInt64(counters.resetsReceived))
        txReset.add(UInt64(counters.resetsSent))
        rxMessagingError.add(UInt64(counters.messagingErrors))
    }
}

extension Nanoseconds {
    /// Up to a tenth earlier: things that began together do not end together.
    func spread(_ random: inout SeededRandom) -> Nanoseconds {
        let tenth = Int(count / 10)
        return tenth > 0 ? Nanoseconds(count: count - Int64(random.below(tenth))) : self
    }
}
