public import Base
import HTTPTransport
import Reactor
public import Transport

/// A response, whole.
public struct HTTPResponse: Sendable {
    public let head: HTTPResponseHead
    public let body: [UInt8]

    public var status: Int { head.status }
}

/// Requests for programs that wait for their answers: it runs a loop of its own until one is there. Keeps its connection between calls.
public final class HTTPCaller {
    private let loop = EventLoop()
    private let address: SocketAddress
    private let tls: TLSContext?
    private let serverName: String?
    private let authority: String
    private let limits: HTTPClientLimits
    private let buffers = LinkBuffers(bytes: 32 * 1024)
    private var connection: HTTPClientConnection?

    /// - Parameter authority: host and port as the server knows itself; the address if nil.
    public init(
        address: SocketAddress, tls: TLSContext? = nil, serverName: String? = nil, authority: String? = nil,
        limits: HTTPClientLimits = HTTPClientLimits()
    ) {
        self.address = address
        self.tls = tls
        self.serverName = serverName
        self.authority = authority ?? "\(address)"
        self.limits = limits
    }

    deinit {
        connection?.close()
    }

    /// Sends a request and waits for the whole response.
    ///
    /// - Parameters:
    ///   - timeout: for all of it; nil = none, for streams that are followed.
    ///   - maxBodyBytes: a longer response fails.
    ///   - onPiece: gets the body piece by piece instead, of a response of any length; false ends the call there.
    public func call(
        method: String = "GET", path: String, headers: [(String, String)] = [], body: [UInt8] = [],
        timeout: Nanoseconds? = .seconds(30), maxBodyBytes: Int = 64 << 20, onPiece: ((HTTPResponseHead, [UInt8]) -> Bool)? = nil
    ) throws(HTTPClientFailure) -> HTTPResponse {
        let deadline = timeout.map { Clock.now() + $0 } ?? .never
        let stream = usableConnection().request(
            method: method, path: path, authority: authority, headers: headers, endStream: body.isEmpty)
        var head: HTTPResponseHead?
        var received: [UInt8] = []
        var result: Result<HTTPResponse, HTTPClientFailure>?
        func fail(_ kind: HTTPClientFailure.Kind, _ text: String) {
            stream.reset()
            result = .failure(HTTPClientFailure(kind, text))
        }
        stream.onHead = { head = $0 }
        stream.onBody = { piece in
            guard let answer = head, result == nil else { return }
            if let onPiece {
                guard !onPiece(answer, piece) else { return }
                stream.reset()
                result = .success(HTTPResponse(head: answer, body: []))
            } else {
                received += piece
                if received.count > maxBodyBytes { fail(.protocolError, "the response has more than \(maxBodyBytes) bytes") }
            }
        }
        stream.onEnd = { _ in
            guard let answer = head, result == nil else { return }
            result = .success(HTTPResponse(head: answer, body: received))
        }
        stream.onFailed = { result = result ?? .failure($0) }
        if !body.isEmpty {
            stream.send(body)
            stream.end()
        }
        while result == nil {
            let now = Clock.now()
            if now >= deadline, let timeout {
                fail(.timeout, "no whole response within \(timeout.seconds) s")
            } else {
                loop.turn(maximumWait: deadline == .never ? nil : deadline - now)
            }
        }
        // A reset is written at the end of a turn.
        loop.turn(maximumWait: .zero)
        guard let result else { preconditionFailure("a call ends with a result") }
        return try result.get()
    }

    private func usableConnection() -> HTTPClientConnection {
        // What has come meanwhile, the server's end too.
        if connection != nil { loop.turn(maximumWait: .zero) }
        if let connection, connection.isUsable { return connection }
        let fresh = HTTPClientConnection(
            loop: loop, address: address, tls: tls, serverName: serverName, limits: limits, buffers: buffers)
        connection = fresh
        fresh.open()
        return fresh
    }
}
