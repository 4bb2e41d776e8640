import ArgumentParser
import Foundation

/// Which control plane a command talks to.
struct ControlOptions: ParsableArguments {
    @Option(help: ArgumentHelp("A profile of 'outrigger context' (default: the one in use).", valueName: "name"))
    var context: String?

    @Option(
        help: ArgumentHelp(
            "host:port, http://host:port or https://host:port (default: OUTRIGGER_CONTROL_PLANE, the context, 127.0.0.1:15010).",
            valueName: "address"))
    var controlPlane: String?

    @Option(
        name: .customLong("ca"), help: ArgumentHelp("PEM of the authority that signed the control plane's certificate.", valueName: "file"))
    var authority: String?

    /// A token of one control plane never goes to another: whoever names an address and no context gets none of a context's.
    func profile(_ environment: [String: String] = ProcessInfo.processInfo.environment) throws -> ControlProfile {
        let named = environment["OUTRIGGER_CONTROL_PLANE"].flatMap { $0.isEmpty ? nil : $0 }
        var profile: ControlProfile
        if let context {
            profile = try Self.file(environment).profile(named: context)
            if let controlPlane { profile.address = controlPlane }
        } else if let address = controlPlane ?? named {
            profile = ControlProfile(address: address)
        } else {
            let file = try Self.file(environment)
            profile = try file.current.map(file.profile(named:)) ?? ControlProfile(address: ControlAddress.usual)
        }
        if let authority { profile.authority = authority }
        if let token = environment["OUTRIGGER_TOKEN"], !token.isEmpty { profile.token = token }
        return profile
    }

    private static func file(_ environment: [String: String]) throws -> ProfileFile {
        try ProfileFile.load(ProfileFile.path(environment))
    }

    func session() throws -> Session {
        let profile = try profile()
        return Session(client: try HTTPControlClient(profile), screen: .standard, namespace: profile.namespace)
    }
}

/// A command that talks to a control plane.
protocol ControlCommand: ParsableCommand {
    var control: ControlOptions { get }
    func run(_ session: Session) throws
}

extension ControlCommand {
    func run() throws { try run(control.session()) }
}

/// `-f` of commands that send files.
struct FileOptions: ParsableArguments {
    @Option(
        name: [.customShort("f"), .customLong("file")], parsing: .upToNextOption,
        help: ArgumentHelp("Files, directories (walked for *.yaml, *.yml, *.json) and - for standard input.", valueName: "path"))
    var files: [String] = []
}

/// How answers look.
enum ListOutput: String, ExpressibleByArgument, CaseIterable {
    case table
    case json
}
