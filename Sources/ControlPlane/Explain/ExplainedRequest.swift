import Base
import ControlAPI
import HTTP
import Routing

/// A request to explain, its URL taken apart.
struct ExplainedRequest {
    /// As the caller's Host says it: `color.local:8080`, or without a port.
    let authority: String
    let host: String
    /// The URL's, or its scheme's own.
    let port: Port
    let isHTTPS: Bool
    /// `tcp://host:port`: a connection, not a request.
    let isTCP: Bool
    private let method: String
    /// Path and query.
    private let target: String
    private let headers: [(name: String, value: String)]

    init(_ request: ExplainRequest) throws(ExplainError) {
        let method = request.method
        guard !method.isEmpty, method.utf8.allSatisfy(Self.isTokenByte) else {
            throw ExplainError("method: expected a word such as GET, found \"\(method)\"")
        }
        self.method = method

        var rest = request.url[...]
        var scheme = "http"
        if let end = rest.firstRange(of: "://") {
            scheme = rest[..<end.lowerBound].lowercased()
            rest = rest[end.upperBound...]
        }
        guard ["http", "https", "grpc", "tcp"].contains(scheme) else {
            throw ExplainError("URL: expected http://, https:// or tcp://, found \"\(request.url)\"")
        }
        isHTTPS = scheme == "https"
        isTCP = scheme == "tcp"
        let authorityEnd = rest.firstIndex { "/?#".contains($0) } ?? rest.endIndex
        var authority = String(rest[..<authorityEnd])
        guard !authority.isEmpty, authority.utf8.allSatisfy({ $0 > 0x20 && $0 < 0x7f }), !authority.contains("@") else {
            throw ExplainError("URL: expected scheme://host[:port]/path, found \"\(request.url)\"")
        }
        let (urlHost, urlPort) = try Self.split(authority, request.url)
        port = urlPort ?? (isHTTPS ? 443 : 80)

        // A fragment never travels (RFC 9112 section 3.2), and the path of a bare host is `/`.
        let pathAndQuery = rest[authorityEnd...].prefix { $0 != "#" }
        target = pathAndQuery.hasPrefix("/") ? String(pathAndQuery) : "/\(pathAndQuery)"

        var headers: [(name: String, value: String)] = []
        var host = urlHost
        for header in request.headers {
            let name = header.name.lowercased()
            if name == "host" || name == ":authority" {
                // As with curl: what is called, and who it is called by, may differ.
                guard !header.value.isEmpty else { throw ExplainError("header \(header.name): expected a host, found nothing") }
                authority = header.value
                host = try Self.split(authority, authority).host
                continue
            }
            guard !name.isEmpty, name.utf8.allSatisfy(Self.isTokenByte) else {
                throw ExplainError("header: expected a field name, found \"\(header.name)\"")
            }
            guard header.value.utf8.allSatisfy({ $0 >= 0x20 && $0 != 0x7f || $0 == 0x09 }) else {
                throw ExplainError("header \(header.name): its value has a control character")
            }
            headers.append((name, header.value))
        }
        let saysType = headers.contains { $0.name == "content-type" }
        if scheme == "grpc", !saysType { headers.append(("content-type", "application/grpc")) }
        self.headers = headers
        self.authority = authority
        self.host = host
    }

    private static func split(_ authority: String, _ whole: String) throws(ExplainError) -> (host: String, port: Port?) {
        guard let colon = authority.lastIndex(of: ":"), !authority.hasSuffix("]") else { return (authority, nil) }
        guard let port = Port(authority[authority.index(after: colon)...]), port > 0 else {
            throw ExplainError("URL: expected a port from 1 through 65535 after the colon, found \"\(whole)\"")
        }
        return (String(authority[..<colon]), port)
    }

    /// RFC 9110 section 5.6.2.
    private static func isTokenByte(_ byte: UInt8) -> Bool {
        switch byte {
        case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"), UInt8(ascii: "0")...UInt8(ascii: "9"): true
        default: "!#$%&'*+-.^_`|~".utf8.contains(byte)
        }
    }

    /// What the codec would make of the request, and the connection manager of that: at the edge, nothing that the caller says about the
    /// way here is believed.
    func head(isEdge: Bool, isHTTPS: Bool) -> Head {
        let head = Head()
        func append(_ text: String) -> Range<Int> {
            let start = head.bytes.count
            head.bytes += text.utf8
            return start..<head.bytes.count
        }
        head.methodRange = append(method)
        head.method = Method(Array(method.utf8).span)
        head.scheme = isHTTPS ? .https : .http
        head.target = append(target)
        head.authority = append(authority)
        var fields = headers.filter { !(isEdge && Self.isClaim($0.name)) && !Self.isOurs($0.name) }
        fields.insert(("host", authority), at: 0)
        if !fields.contains(where: { $0.name == "x-forwarded-proto" }) { fields.append(("x-forwarded-proto", isHTTPS ? "https" : "http")) }
        for (name, value) in fields {
            let (name, value, known) = (append(name), append(value), KnownField(Array(name.utf8).span))
            head.fields.append(Head.Field(name: name, value: value, known: known))
        }
        return head
    }

    /// The fields that a gateway takes away.
    func claims() -> [String] { headers.map(\.name).filter(Self.isClaim) }

    private static func isClaim(_ name: String) -> Bool {
        let exact: Set = ["x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "forwarded", "x-request-id"]
        return exact.contains(name) || name.hasPrefix("x-envoy-") || name.hasPrefix("x-outrigger-")
    }

    private static func isOurs(_ name: String) -> Bool { name == "x-forwarded-client-cert" || name == "x-outrigger-details" }
}
