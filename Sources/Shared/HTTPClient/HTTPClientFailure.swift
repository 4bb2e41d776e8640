public import HTTP2
import HTTPTransport
import Transport

/// Why a request, or the connection under it, failed.
public struct HTTPClientFailure: Error, Hashable, Sendable, CustomStringConvertible {
    public enum Kind: Hashable, Sendable {
        /// TCP: refused, unreachable.
        case connect
        case tls
        /// The connection did not stand in time, or the server stopped answering.
        case timeout
        /// Something else answers there.
        case notHTTP2
        /// The server has not looked at the request: it may be sent again, whatever its method.
        case unprocessed
        /// The server, or a rule of ours, has reset the stream.
        case reset(HTTP2ErrorCode)
        /// The connection ended or broke under way.
        case connectionLost
        /// The server broke the rules of HTTP/2 or of messages.
        case protocolError
        /// The server does not read: more than `maxQueuedBytes` were waiting.
        case cutOff
        /// `close` was called here.
        case closed
    }

    public var kind: Kind
    /// For people: `connection refused`.
    public var text: String

    public init(_ kind: Kind, _ text: String) {
        self.kind = kind
        self.text = text
    }

    public var description: String { text }

    init(_ failure: LinkFailure, isOpen: Bool) {
        switch failure {
        case .system(let error):
            let words = "\(error)"
            self.init(isOpen ? .connectionLost : .connect, words.prefix(1).lowercased() + words.dropFirst())
        case .tls(.notTLS): self.init(.tls, "TLS: the server speaks none on this port")
        case .tls(.certificateRefused(_, let reason, let subject)):
            self.init(.tls, "TLS: certificate verify failed: \(reason)" + (subject.isEmpty ? "" : " (\(subject))"))
        case .tls(let error): self.init(isOpen ? .connectionLost : .tls, "TLS: \(error)")
        }
    }
}
