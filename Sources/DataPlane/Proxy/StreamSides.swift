import Base
import HTTP
import HTTP1
import ProxyConfig
import Telemetry

/// One side of a stream: an HTTP/1 connection, or one stream of an HTTP/2 connection.
///
/// A stream knows its sides only by this file, so every pairing of protocols is the same code.
protocol StreamSide: AnyObject {
    /// It cannot take more now: whoever feeds it should stop reading.
    var isCongested: Bool { get }
    var isReadPaused: Bool { get }
    /// No more body from here until `resumeReading`: bytes stay in the kernel, or the window stays closed.
    func pauseReading()
    func resumeReading()
    func sendBody(_ piece: UnsafeRawBufferPointer)
    /// What was gathered leaves now, or, over HTTP/2, at the end of this turn of the loop.
    func flush()

    /// From here on bytes go through untouched: the upgrade was accepted.
    func enterTunnel()
    func sendTunnelled(_ bytes: UnsafeRawBufferPointer)
    /// Half-close of a tunnel, behind everything that was sent.
    func finishWriting()
}

/// The caller's side of a stream.
protocol DownstreamSide: StreamSide {
    var connection: DownstreamConnection { get }
    var requestFraming: Framing { get }
    /// The request asks for another protocol: Upgrade, or the extended CONNECT of RFC 8441.
    var wantsUpgrade: Bool { get }
    /// It waits for "100 Continue" before it sends its body, and may never send it.
    var expectsContinue: Bool { get }
    /// The request's head is not complete yet.
    var isInHead: Bool { get }

    func sendInterim(_ head: Head)
    /// - Parameter framing: how the upstream framed the body; the side frames it as its protocol does.
    func sendHead(_ head: Head, framing: Framing, isUpgrade: Bool, requestHead: Head)
    func endResponse(trailers: Head)
    /// Nothing more of this request will be read as such: the connection, or the stream, ends with its response.
    func abandonKeepAlive()
    /// Ends in the middle of a response, so that nobody takes it for a whole one.
    func cut()
    /// The caller is gone, or not to be spoken with: ends without a word.
    func abandon()
    /// The stream is over, both ways.
    func streamFinished()
}

/// The endpoint's side of one attempt.
protocol UpstreamSide: StreamSide {
    /// It carried other streams before: its endpoint may have closed it meanwhile.
    var wasReused: Bool { get }
    /// Some of the request is still here.
    var hasUnsentOutput: Bool { get }
    /// Of the request, about.
    var unsentBytes: Int { get }
    /// A request that the endpoint says it has not looked at is sent again, so keep what was sent (RFC 9113 section 8.7).
    var mayRefuseUnprocessed: Bool { get }

    func begin(_ stream: Stream, head: Head, framing: Framing, isUpgrade: Bool)
    func endRequest(trailers: Head)
    /// The stream is done with it. `requestWasSent`: whole.
    func release(requestWasSent: Bool)
    /// Another attempt takes its place: of the answer, whose head has come, nobody wants the rest.
    func discardResponse()
    /// The caller is gone, or the answer came too late.
    func abandon()
}

/// A stream that waits for something: its destination, or a connection whose protocol is being negotiated. The stream lets go of it when
/// it ends otherwise, for streams are used again.
final class StreamWaiter {
    private(set) var stream: Stream?

    init(_ stream: Stream) {
        self.stream = stream
    }

    func cancel() {
        stream = nil
    }
}
