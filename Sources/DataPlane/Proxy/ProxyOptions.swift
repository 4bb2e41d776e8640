import Base
import Reactor
import Telemetry

/// What the command line of `outrigger-proxy` says.
struct ProxyOptions {
    /// The file to run and follow; empty where a control plane is asked instead.
    var snapshotPath = ""
    /// Where configuration comes from, unless it is a file.
    var controlPlane: ControlPlaneOptions?
    var workers: Int?
    var drainTime: Duration?
    /// Between the word that we drain and the end of listening, for callers to hear of it.
    var drainDelay: Duration?
    /// Goes before what the configuration says.
    var adminAddress: SocketAddress?
    var dnsServers: [SocketAddress] = []
    /// Goes before what the configuration, or the cgroup, says.
    var maxMemoryBytes: Int?
    var logLevel = ProcessLog.Level.info

    /// The folder that is watched for a new file.
    var snapshotFolder: String {
        guard let slash = snapshotPath.lastIndex(of: "/") else { return "." }
        return slash == snapshotPath.startIndex ? "/" : String(snapshotPath[..<slash])
    }

    static let usage = """
        usage: outrigger-proxy --snapshot FILE [options]
               outrigger-proxy --control-plane HOST:PORT (--node NAME | --gateway NAME) [options]

        The first form runs the snapshot in FILE, and follows the file: write a new one beside it and rename it over the old one.
        `outrigger render -o snapshot` makes snapshots from App Mesh YAML; `outrigger run` does both. The second form gets its
        configuration from a control plane (outriggerd, or another one that speaks xDS), and reports to it.

          --snapshot FILE        the configuration to run
          --workers N            threads that carry traffic, 1 to 64 (default: the snapshot's, else the CPU quota, at most 2)
          --drain-time SECONDS   how long SIGTERM waits for open requests (default: the snapshot's, else 20)
          --drain-delay SECONDS  how long before that listeners stay open while /ready says DRAINING and the control plane tells callers
                                 (default: 1 with a control plane that is connected, else 0)
          --admin-address IP:PORT  of the admin interface (default: the snapshot's, else 127.0.0.1:9901)
          --dns-servers LIST     asked instead of the machine's: IP[:PORT], several with commas between them
          --max-memory MIB       that the process may use before it sheds load (default: the snapshot's, else what the cgroup allows)
          --log-level LEVEL      trace, debug, info, warning, error or off (default: info)
          --version              prints the version

        With a control plane:
          --node NAME            the VirtualNode that this proxy serves: NAME or NAMESPACE/NAME
          --gateway NAME         the VirtualGateway that it is
          --mesh NAME            of the node, where the control plane has several meshes
          --namespace NS         of the node
          --instance ID          which of the node's proxies this is (default: the host's name)
          --address IP           where other proxies reach this one
          --host-address IP      of this instance, in place of 0.0.0.0 and 127.0.0.1 in its listeners
          --state FILE|DIR       keeps the last good configuration, private keys too, for a start without a control plane
          --join-token TOKEN     gets a certificate of its own from outriggerd, once, and renews it; kept beside --state. Also taken from the
                                 environment: OUTRIGGER_JOIN_TOKEN
          --control-plane-ca FILE        speaks TLS, and trusts these certificates
          --client-certificate FILE      shown to the control plane
          --client-key FILE              its key
          --control-plane-name NAME      in the control plane's certificate (default: HOST)
          --insecure-control-plane       allows plaintext beyond this machine

        Signals: SIGTERM or SIGINT drains, a second one ends at once; SIGHUP reads FILE again, or tries again what was refused; SIGUSR1
        reopens log files.
        """

    /// - Parameter joinToken: of the environment, where command lines are seen by fewer.
    /// - Throws: a sentence for the person who typed it.
    init(_ arguments: [String], joinToken: String? = nil) throws(UsageError) {
        var words = ControlPlaneOptions.Words()
        var managedOption: String?
        var rest = arguments[...]
        while let argument = rest.popFirst() {
            var name = argument
            var inlineValue: String?
            if argument.hasPrefix("--"), let equals = argument.firstIndex(of: "=") {
                name = String(argument[..<equals])
                inlineValue = String(argument[argument.index(after: equals)...])
            }
            func value() throws(UsageError) -> String {
                if let inlineValue { return inlineValue }
                guard let next = rest.popFirst() else { throw UsageError(text: "\(name) needs a value") }
                return next
            }
            func seconds() throws(UsageError) -> Duration {
                let text = try value()
                guard let seconds = Int(text), (0...86400).contains(seconds) else {
                    throw UsageError(text: "\(name): expected seconds from 0 through 86400, found \"\(text)\"")
                }
                return .seconds(seconds)
            }
            if try words.take(name, value) {
                managedOption = name
                continue
            }
            switch name {
            case "--snapshot": snapshotPath = try value()
            case "--workers":
                let text = try value()
                guard let count = Int(text), (1...64).contains(count) else {
                    throw UsageError(text: "--workers: expected a number from 1 through 64, found \"\(text)\"")
                }
                workers = count
            case "--drain-time": drainTime = try seconds()
            case "--drain-delay": drainDelay = try seconds()
            case "--admin-address":
                let text = try value()
                guard let address = SocketAddress(text) else {
                    throw UsageError(text: "--admin-address: expected IP:PORT, found \"\(text)\"")
                }
                adminAddress = address
            case "--dns-servers":
                let text = try value()
                for word in text.split(separator: ",", omittingEmptySubsequences: false) {
                    guard let server = SocketAddress(word) ?? IPAddress(word).map({ SocketAddress($0, 53) }), server.port > 0 else {
                        throw UsageError(text: "--dns-servers: expected IP or IP:PORT, found \"\(word)\"")
                    }
                    dnsServers.append(server)
                }
            case "--max-memory":
                let text = try value()
                guard let size = Int(text), (16...1_048_576).contains(size) else {
                    throw UsageError(text: "--max-memory: expected MiB from 16 through 1048576, found \"\(text)\"")
                }
                maxMemoryBytes = size << 20
            case "--log-level":
                let text = try value()
                guard let level = ProcessLog.Level(text) else {
                    throw UsageError(text: "--log-level: expected trace, debug, info, warning, error or off, found \"\(text)\"")
                }
                logLevel = level
            default: throw UsageError(text: "unknown argument \"\(argument)\"")
            }
        }
        if words.controlPlane != nil {
            guard snapshotPath.isEmpty else { throw UsageError(text: "--snapshot and --control-plane: expected one of them, found both") }
            if words.joinToken == nil { words.joinToken = joinToken }
            controlPlane = try ControlPlaneOptions(words)
        } else if let managedOption {
            throw UsageError(text: "\(managedOption) needs --control-plane HOST:PORT")
        } else if snapshotPath.isEmpty {
            throw UsageError(text: "--snapshot FILE is missing, or --control-plane HOST:PORT")
        }
    }
}

extension ControlPlaneOptions.Words {
    /// - Returns: whether the option is one of these.
    fileprivate mutating func take(_ name: String, _ value: () throws(UsageError) -> String) throws(UsageError) -> Bool {
        switch name {
        case "--control-plane": controlPlane = try value()
        case "--node": node = try value()
        case "--gateway": gateway = try value()
        case "--mesh": mesh = try value()
        case "--namespace": namespace = try value()
        case "--instance": instance = try value()
        case "--address": address = try value()
        case "--host-address": hostAddress = try value()
        case "--state": state = try value()
        case "--control-plane-ca": authorities = try value()
        case "--client-certificate": certificate = try value()
        case "--client-key": key = try value()
        case "--control-plane-name": self.name = try value()
        case "--insecure-control-plane": allowsPlaintext = true
        case "--join-token": joinToken = try value()
        default: return false
        }
        return true
    }
}
