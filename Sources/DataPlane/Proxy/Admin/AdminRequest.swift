import Base
import HTTP

/// What a request to the admin interface asks for.
struct AdminRequest {
    var method: Method
    /// Without the query.
    var path: String
    /// In order; a name without a value has an empty one.
    var query: [(name: String, value: String)] = []
    /// Host and port as the caller named us; empty for an HTTP/1.0 caller who did not.
    var authority: String = ""
    /// The page that made a browser send this, if it says so.
    var origin: String?
    /// What a browser says of that page: `same-origin`, `cross-site`, ...
    var fetchSite: String?

    init(method: Method, path: String) {
        self.method = method
        self.path = path
    }

    init(_ head: Head) {
        self.init(method: head.method, path: head.string(head.path))
        query = Self.query(head.string(head.query))
        authority = head.string(head.authority)
        for field in head.fields {
            if head.equals(field.name, "origin") { origin = head.string(field.value) }
            if head.equals(field.name, "sec-fetch-site") { fetchSite = head.string(field.value) }
        }
    }

    /// The value of a parameter; empty if it stands without one, nil if it is not there.
    subscript(_ name: String) -> String? {
        query.first { $0.name == name }?.value
    }

    /// `?usedonly` and `?usedonly=true` are on, `=false` is off.
    func flag(_ name: String) -> Bool {
        self[name].map { $0 != "false" && $0 != "0" } ?? false
    }

    // MARK: Who may ask

    /// Whether the caller means this machine. A browser that was lured to a foreign name whose address then became ours (DNS
    /// rebinding) sends that name, so only addresses and `localhost` are believed.
    var namesAnAddress: Bool {
        if authority.isEmpty { return true }
        if SocketAddress(authority) != nil || IPAddress(authority) != nil { return true }
        if authority.hasPrefix("["), authority.hasSuffix("]") { return IPAddress(authority.dropFirst().dropLast()) != nil }
        let host = authority.prefix { $0 != ":" }
        let port = authority.dropFirst(host.count + 1)
        return host.lowercased() == "localhost" && port.allSatisfy(\.isNumber)
    }

    /// Whether a foreign page made a browser send it: a form may post to any address, and the browser then says where it stands.
    var comesFromAForeignPage: Bool {
        if let fetchSite, fetchSite != "same-origin", fetchSite != "none" { return true }
        guard let origin else { return false }
        return origin.lowercased() != "http://\(authority.lowercased())"
    }

    // MARK: Query

    private static func query(_ text: String) -> [(name: String, value: String)] {
        text.split(separator: "&").map { pair in
            let parts = pair.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
            return (decoded(parts[0]), parts.count > 1 ? decoded(parts[1]) : "")
        }
    }

    /// `%41` is `A`, `+` a space; a percent sign that begins no such pair stands for itself.
    private static func decoded(_ text: Substring) -> String {
        var bytes: [UInt8] = []
        var rest = text.utf8[...]
        while let byte = rest.popFirst() {
            if byte == UInt8(ascii: "%"), let pair = UInt8(hexadecimal: rest.prefix(2)) {
                bytes.append(pair)
                rest = rest.dropFirst(2)
            } else {
                bytes.append(byte == UInt8(ascii: "+") ? UInt8(ascii: " ") : byte)
            }
        }
        return String(decoding: bytes, as: UTF8.self)
    }
}

extension UInt8 {
    /// Two hexadecimal digits; nil for anything else.
    fileprivate init?(hexadecimal digits: some Collection<UInt8>) {
        guard digits.count == 2, digits.allSatisfy({ (0x30...0x39).contains($0) || (0x41...0x46).contains($0 & 0xdf) }),
            let value = UInt8(String(decoding: digits, as: UTF8.self), radix: 16)
        else { return nil }
        self = value
    }
}
