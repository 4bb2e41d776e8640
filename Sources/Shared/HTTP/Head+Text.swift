/// Heads made of text, for cold paths: what a control plane says and asks, never what the proxy passes on.
extension Head {
    /// Appends a field. The name becomes lower case; bytes of the value that no field may have (RFC 9110 section 5.5) become spaces, so
    /// that text from elsewhere cannot begin another line.
    ///
    /// - Precondition: the name is a token.
    public func append(field name: String, _ value: String) {
        let start = bytes.count
        bytes.append(contentsOf: name.utf8.lazy.map(lowercase))
        let middle = bytes.count
        precondition(middle > start && bytes[start...].allSatisfy(isToken), "a field named \"\(name)\"")
        bytes.append(contentsOf: value.utf8.lazy.map { $0 >= 0x20 && $0 != 0x7F || $0 == 0x09 ? $0 : 0x20 })
        // Of a constant: release builds refuse a span of the property here, whose lifetime they cannot see.
        let written = bytes
        let known = KnownField(written.span.extracting(start..<middle))
        fields.append(Field(name: start..<middle, value: middle..<bytes.count, known: known))
    }

    /// A request's start line. Bytes of the target and the authority that none may have (RFC 9112 section 3.2) are escaped with `%`.
    ///
    /// - Precondition: the method is a token.
    public func setRequest(method text: String, scheme: Scheme, authority host: String, target path: String) {
        precondition(!text.isEmpty && text.utf8.allSatisfy(isToken), "a method \"\(text)\"")
        methodRange = append(plain: text)
        let written = bytes
        method = Method(written.span.extracting(methodRange))
        self.scheme = scheme
        authority = append(plain: host)
        target = append(plain: path.isEmpty ? "/" : path)
    }

    /// The values of all fields of this name, in any case, in their order.
    public func values(_ name: String) -> [String] {
        fields.lazy.filter { self.names($0, name) }.map { self.string($0.value) }
    }

    /// The value of the first field of this name, in any case.
    public func value(_ name: String) -> String? {
        fields.first { names($0, name) }.map { string($0.value) }
    }

    private func names(_ field: Field, _ name: String) -> Bool {
        field.name.count == name.utf8.count && zip(field.name, name.utf8).allSatisfy { lowercase(bytes[$0]) == lowercase($1) }
    }

    private func append(plain text: String) -> Range<Int> {
        let start = bytes.count
        for byte in text.utf8 {
            if byte > 0x20, byte < 0x7F {
                bytes.append(byte)
            } else {
                bytes.append(UInt8(ascii: "%"))
                bytes.append(contentsOf: [byte >> 4, byte & 0xF].map { $0 < 10 ? UInt8(ascii: "0") + $0 : UInt8(ascii: "A") + $0 - 10 })
            }
        }
        return start..<bytes.count
    }
}
