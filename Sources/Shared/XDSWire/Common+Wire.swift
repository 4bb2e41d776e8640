import Base
import ProxyConfig

/// envoy.config.core.v3.Address.
enum AddressField: Int, WireField {
    case socket_address = 1
    case pipe = 2
    case envoy_internal_address = 3
}

/// envoy.config.core.v3.SocketAddress.
enum SocketAddressField: Int, WireField {
    case `protocol` = 1
    case address = 2
    case port_value = 3
    case named_port = 4
}

extension SocketAddress: WireMessage {
    func write(to message: inout MessageWriter<AddressField>) {
        writeAddress(host: ip.description, port: port, to: &message)
    }

    /// Port 0 is valid here: where a listener is bound it means "any".
    static func read(_ message: MessageReader<AddressField>) -> SocketAddress? {
        guard let (host, port, path) = readAddress(message, ports: 0...65535) else { return nil }
        guard let ip = IPAddress(host) else {
            message.context.add(path(), expected: "an IP address", found: "\"\(host)\"")
            return nil
        }
        return SocketAddress(ip, port)
    }
}

func writeAddress(host: String, port: Port, to message: inout MessageWriter<AddressField>) {
    message.message(.socket_address, SocketAddressField.self) {
        $0.string(.address, host)
        $0.number(.port_value, port)
    }
}

/// The host (an IP address or a name), the port, and where the host stands.
func readAddress(_ message: MessageReader<AddressField>, ports: ClosedRange<UInt32>) -> (host: String, port: Port, path: () -> FieldPath)? {
    message.refuse(.pipe, .envoy_internal_address)
    guard let address = message.required(.socket_address, SocketAddressField.self) else { return nil }
    address.refuse(.named_port)
    if address.number(.protocol) != 0 { address.fail(.protocol, expected: "TCP (0)", found: address.number(.protocol)) }
    let host = address.requiredString(.address)
    guard let port = address.uint32(.port_value, in: ports), !host.isEmpty else { return nil }
    return (host, Port(port), { address.path(.address) })
}

extension Locality: WireMessage {
    /// envoy.config.core.v3.Locality.
    enum Fields: Int, WireField {
        case region = 1
        case zone = 2
        case sub_zone = 3
    }

    func write(to message: inout MessageWriter<Fields>) {
        message.string(.region, region)
        message.string(.zone, zone)
        message.string(.sub_zone, subZone)
    }

    static func read(_ message: MessageReader<Fields>) -> Locality? {
        Locality(region: message.string(.region), zone: message.string(.zone), subZone: message.string(.sub_zone))
    }
}

/// envoy.config.core.v3.ConfigSource. We write `ads` in version V3, and read nothing out of it: in a mesh that one stream serves,
/// everything comes by that stream.
enum ConfigSourceField: Int, WireField {
    case path = 1
    case api_config_source = 2
    case ads = 3
    case `self` = 5
    case resource_api_version = 6
    case path_config_source = 8
}

extension MessageWriter {
    mutating func adsSource(_ field: Field) {
        message(field, ConfigSourceField.self) {
            $0.emptyMessage(.ads)
            $0.number(.resource_api_version, 2)
        }
    }
}

extension MessageReader {
    func requireADSSource(_ field: Field) {
        guard let source = required(field, ConfigSourceField.self) else { return }
        source.refuse(.path, .api_config_source, .path_config_source)
    }
}

/// envoy.config.core.v3.DataSource.
enum DataSourceField: Int, WireField {
    case filename = 1
    case inline_bytes = 2
    case inline_string = 3
    case environment_variable = 4
}

extension MessageReader<DataSourceField> {
    /// The text of an inline source.
    func inlineText() -> String {
        refuse(.filename, .environment_variable)
        return string(chosen(.inline_bytes, .inline_string) ?? .inline_string)
    }

    /// The bytes of an inline source, which must not be empty.
    func requiredInlineBytes() -> [UInt8]? {
        refuse(.filename, .environment_variable)
        let content = bytes(chosen(.inline_bytes, .inline_string) ?? .inline_bytes) ?? []
        if content.isEmpty { fail(.inline_bytes, expected: "a value", found: "nothing") }
        return content.isEmpty ? nil : Array(content)
    }

    func requiredFilename() -> String {
        refuse(.inline_bytes, .inline_string, .environment_variable)
        return requiredString(.filename)
    }
}

/// envoy.config.core.v3.TransportSocket.
enum TransportSocketField: Int, WireField {
    case name = 1
    case typed_config = 3
}

/// envoy.config.cluster.v3.Cluster.TransportSocketMatch.
enum TransportSocketMatchField: Int, WireField {
    case name = 1
    case match = 2
    case transport_socket = 3
}

/// How an endpoint says in its metadata that it speaks no TLS.
enum PlaintextMark {
    /// The part of an endpoint's metadata that `transport_socket_matches` look at.
    static let metadata = "envoy.transport_socket_match"
    static let key = "plaintext"
}

/// envoy.config.core.v3.HttpProtocolOptions.
enum CommonHTTPOptionsField: Int, WireField {
    case idle_timeout = 1
    case max_headers_count = 2
    case max_connection_duration = 3
    case max_stream_duration = 4
    case max_requests_per_connection = 6
}

/// google.protobuf.Struct and the entries of its map.
enum StructField: Int, WireField {
    case fields = 1
}

/// An entry of any map whose keys are strings.
enum MapEntryField: Int, WireField {
    case key = 1
    case value = 2
}

/// google.protobuf.Value.
enum ValueField: Int, WireField {
    case null_value = 1
    case number_value = 2
    case string_value = 3
    case bool_value = 4
    case struct_value = 5
    case list_value = 6
}

extension MessageWriter<StructField> {
    mutating func entry(_ key: String, _ write: (inout MessageWriter<ValueField>) -> Void) {
        message(.fields, MapEntryField.self) {
            $0.string(.key, key)
            $0.message(.value, ValueField.self, write)
        }
    }
}

extension MessageReader<StructField> {
    /// The entries in the order of the wire. A key that stands twice has its last value, as protobuf says.
    func entries() -> [(key: String, value: MessageReader<ValueField>)] {
        var entries: [(key: String, value: MessageReader<ValueField>)] = []
        for entry in messages(.fields, MapEntryField.self) {
            guard let value = entry.message(.value, ValueField.self) else { continue }
            let key = entry.string(.key)
            if let index = entries.firstIndex(where: { $0.key == key }) {
                entries[index].value = value
            } else {
                entries.append((key, value))
            }
        }
        return entries
    }

    subscript(key: String) -> MessageReader<ValueField>? {
        entries().last { $0.key == key }?.value
    }
}

/// envoy.config.core.v3.Metadata.
enum MetadataField: Int, WireField {
    case filter_metadata = 1
}

/// The key under which we put what xDS has no field for, in `filter_metadata` and in a node's `metadata`. Others ignore it.
let outriggerMetadataKey = "outrigger"

extension MessageReader<MetadataField> {
    subscript(key: String) -> MessageReader<StructField>? {
        messages(.filter_metadata, MapEntryField.self).last { $0.string(.key) == key }?.message(.value, StructField.self)
    }
}

/// envoy.type.matcher.v3.StringMatcher.
enum StringMatcherField: Int, WireField {
    case exact = 1
    case prefix = 2
    case suffix = 3
    case safe_regex = 5
    case ignore_case = 6
    case contains = 7
    case custom = 8
}

/// envoy.type.matcher.v3.RegexMatcher.
enum RegexMatcherField: Int, WireField {
    case google_re2 = 1
    case regex = 2
}

extension MessageReader<StringMatcherField> {
    /// The text of an `exact` matcher, the only kind that is possible here.
    func exactText() -> String? {
        refuseIgnoringCase()
        guard chosen(.exact, .prefix, .suffix, .safe_regex, .contains, .custom) == .exact else {
            context.add(path, expected: "an exact match", found: "another matcher or none")
            return nil
        }
        return string(.exact)
    }

    func refuseIgnoringCase() {
        if bool(.ignore_case) { fail(.ignore_case, expected: "false: Outrigger compares with case", found: true) }
    }
}
