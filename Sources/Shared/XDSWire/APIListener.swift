import Base
import ProxyConfig

/// A listener that binds no address (envoy.config.listener.v3.ApiListener): how a gRPC client learns the routes of the target that it
/// calls `xds:///NAME`. Proxies have none.
public struct APIListener: Hashable, Sendable {
    /// The target, without `xds:///`.
    public var name: String
    public var routeConfigurationName: String

    public init(name: String, routeConfigurationName: String) {
        self.name = name
        self.routeConfigurationName = routeConfigurationName
    }

    /// - Throws: that it is no listener, or none with an api_listener whose routes come by ADS.
    public init(decoding bytes: [UInt8]) throws(WireErrors) {
        self = try decodeMessage(Self.self, bytes[...], ResourceType.listener.name) { $0.string(.name) }.value
    }
}

extension APIListener: WireResource {
    public static var resourceType: ResourceType { .listener }
    public var resourceName: String { name }
    public func encoded() -> [UInt8] { wireBytes(self) }
}

extension APIListener: WireMessage {
    /// A connection manager with nothing but the routes and the router: gRPC refuses some of what ours say to Envoy.
    func write(to message: inout MessageWriter<Listener.Fields>) {
        message.string(.name, name)
        message.message(.api_listener, APIListenerField.self) {
            $0.any(.api_listener, .httpConnectionManager, HTTPConnectionManager.Fields.self) {
                $0.string(.stat_prefix, "api")
                $0.message(.rds, RDSField.self) {
                    $0.adsSource(.config_source)
                    $0.string(.route_config_name, routeConfigurationName)
                }
                $0.message(.http_filters, HTTPFilterField.self) {
                    $0.string(.name, "envoy.filters.http.router")
                    $0.any(.typed_config, .router, NoField.self) { _ in }
                }
            }
        }
    }

    static func read(_ message: MessageReader<Listener.Fields>) -> APIListener? {
        let name = message.requiredString(.name)
        guard let config = message.required(.api_listener, APIListenerField.self)?.any(.api_listener),
            config.type == .httpConnectionManager
        else {
            message.fail(.api_listener, expected: "an HttpConnectionManager", found: "something else")
            return nil
        }
        guard let manager = config.open(HTTPConnectionManager.Fields.self),
            let rds = manager.required(.rds, RDSField.self)
        else { return nil }
        rds.requireADSSource(.config_source)
        return APIListener(name: name, routeConfigurationName: rds.requiredString(.route_config_name))
    }
}

/// envoy.config.listener.v3.ApiListener.
enum APIListenerField: Int, WireField {
    case api_listener = 1
}
