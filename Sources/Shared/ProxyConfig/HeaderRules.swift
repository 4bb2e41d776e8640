/// Which headers a configuration may change, and to what.
extension HeaderChanges {
    /// What frames a message, or belongs to one hop (RFC 9110 section 7.6.1), is the proxy's own; `host` has a rewrite of its own.
    private static let fixedNames: Set<String> = [
        "connection", "content-length", "host", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade",
    ]

    /// Whether a header of this name, in lower case, may be changed.
    public static func mayChange(_ name: String) -> Bool {
        isName(name) && !fixedNames.contains(name)
    }

    /// A token (RFC 9110 section 5.6.2) without upper case.
    public static func isName(_ name: String) -> Bool {
        !name.isEmpty
            && name.utf8.allSatisfy { byte in
                UInt8(ascii: "a")...UInt8(ascii: "z") ~= byte || UInt8(ascii: "0")...UInt8(ascii: "9") ~= byte
                    || "!#$%&'*+-.^_`|~".utf8.contains(byte)
            }
    }

    /// RFC 9110 section 5.5: no control character but the tab, and no blank at either end.
    public static func isValue(_ value: String) -> Bool {
        func isBlank(_ byte: UInt8?) -> Bool { byte == UInt8(ascii: " ") || byte == UInt8(ascii: "\t") }
        return !isBlank(value.utf8.first) && !isBlank(value.utf8.last)
            && value.utf8.allSatisfy { $0 >= 0x20 && $0 != 0x7f || $0 == UInt8(ascii: "\t") }
    }
}
